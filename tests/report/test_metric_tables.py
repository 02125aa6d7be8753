from uniemo.report.metric_tables import Name, by_emotion, comparison, overall, parse, shown


def test_names():
    assert parse("Emo-A[ViT-L/14]/awe") == Name("Emo-A", "ViT-L/14", "awe")
    metrics = {"accuracy": 0.5, "accuracy/awe": 0.25, "FID[a]": 3.0, "real/FID[a]": 1.0, "coverage/area": 0.1}
    assert overall(metrics) == {"accuracy": 0.5, "FID": 3.0}


def test_emotions_stand_in_the_given_order():
    table = by_emotion({"accuracy/a": 0.5, "accuracy/c": 0.25, "FID[n]/b": 2.0}, ["c", "b"])
    assert [row[0] for row in table.rows] == ["c", "b", "a"]
    assert table.rows[1] == ("b", "–", "2.00")


def test_a_comparison_needs_two():
    assert comparison([("a", "test split", {"accuracy": 0.5}), ("b", "", {})]) is None
    table = comparison([("a", "test split", {"accuracy": 0.5}), ("b", "x", {"FID[n]": 1.5})])
    assert table.rows == (("a", "50.00", "–", "test split"), ("b", "–", "1.50", "x"))


def test_a_balanced_accuracy_that_does_not_differ_is_left_out():
    assert overall({"accuracy": 0.8837500214, "balanced_accuracy": 0.8837499618}) == {"accuracy": 0.8837500214}
    assert set(overall({"accuracy": 0.5, "balanced_accuracy": 0.25})) == {"accuracy", "balanced_accuracy"}
    assert shown("accuracy", 0.8837500214) == shown("accuracy", 0.8837499618) == "88.38"
    assert shown("FID", None) == "–"
