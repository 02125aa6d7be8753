"""Reading a report as a browser would, and run folders to report on."""

import json
from html.parser import HTMLParser

import yaml
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

EMOTIONS = ["awe", "fear"]


class Page(HTMLParser):
    """Elements of a page: ``elements`` as (tag, attributes), ``texts`` by the tag that they stand in."""

    VOID = ("meta", "img")

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts, self._open = [], [], []
        self.feed(text)
        self.close()
        assert not self._open, f"left open: {self._open}"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open, f"{tag} closes nothing"
        assert self._open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.texts.append((self._open[-1] if self._open else "", " ".join(data.split())))

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def words(self, *tags):
        return [text for tag, text in self.texts if not tags or tag in tags]


def assert_self_contained(page):
    """Nothing is loaded, nothing runs."""
    assert not {"script", "link", "iframe", "object", "base", "form"} & {tag for tag, _ in page.elements}
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#"))
        assert "url(" not in (attributes.get("style") or "")
    style = " ".join(page.words("style"))
    assert "url(" not in style
    assert "@import" not in style
    (policy,) = [one["content"] for one in page.all("meta") if "http-equiv" in one]
    assert policy.startswith("default-src 'none'; img-src data:;")


def write_events(folder, curves, suffix=""):
    """Write scalars, (step, value) pairs by name, a second between points."""
    writer = EventFileWriter(str(folder), filename_suffix=suffix)
    for name, points in curves.items():
        for number, (step, value) in enumerate(points):
            summary = Summary(value=[Summary.Value(tag=name, simple_value=value)])
            writer.add_event(Event(wall_time=1e9 + number, step=step, summary=summary))
    writer.close()


def write_run(folder, emotions=EMOTIONS, **config):
    """Write what fit and test leave in a run folder."""
    (folder / "images").mkdir(parents=True)
    settings = {"model": {"class_path": "uniemo.modules.JointModule"}, "seed_everything": 3, **config}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings, allow_unicode=True))
    metrics = {
        "test/accuracy": 0.875,
        "test/balanced_accuracy": 0.75,
        "test/FID[tiny]": 12.3456,
        "test/Emo-A[tiny]": 0.5,
        "test/real/Emo-A[tiny]": 0.9125,
        "test/coverage/object": 0.4,
        "test/coverage/area": 0.1,
    }
    for emotion, value in zip(emotions, (1.0, 0.5), strict=True):
        metrics[f"test/accuracy/{emotion}"] = value
    _write(folder / "test.json", metrics)
    _write(folder / "test_confusion.json", {"emotions": emotions, "counts": [[3, 0], [1, 1]]})
    generated = {f"Emo-A[tiny]/{emotion}": 0.25 for emotion in emotions}
    _write(folder / "test_generation.json", {"images_per_emotion": 4, "generated": generated, "real": {}})
    write_events(folder, {"loss/total": [(0, 2.0), (10, 1.0), (20, 0.5)], "epoch": [(0, 0), (20, 1)]})
    picture = Image.new("RGB", (8, 6), "red")
    picture.putpixel((1, 2), (0, 0, 255))
    picture.save(folder / "images" / "val_generated_epoch001.png")
    Image.new("RGB", (8, 6), "green").save(folder / "images" / "val_generated_epoch000.png")
    return folder


def _write(path, values):
    path.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")
