from uniemo.callbacks.closing_table import format_table


def test_columns_are_aligned_and_groups_apart():
    text = format_table({"val/accuracy": 0.5, "loss/scene": 1.23456, "loss/total": 12.0}, "end")
    assert text.splitlines() == [
        "end",
        "  loss/scene        1.2346",
        "  loss/total       12.0000",
        "",
        "  val/accuracy      0.5000",
    ]


def test_without_figures():
    assert "no figures" in format_table({}, "end")
