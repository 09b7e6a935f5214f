import pytest

from stemrack.clients.words import UsageError, shown, value_from


@pytest.mark.parametrize(
    ("text", "now", "value"),
    [
        ("On", False, True),
        ("no", True, False),
        ("true", False, True),
        ("-6", 0.0, -6.0),
        ("1e1", 0.0, 10.0),
        ("1", "live", "1"),
        ("on", "live", "on"),
        ("1.5", None, 1.5),
        ("on", None, "on"),
    ],
)
def test_a_word_means_what_the_parameter_is(text, now, value):
    meant = value_from(text, now)
    assert (meant, type(meant)) == (value, type(value))


@pytest.mark.parametrize(("text", "now"), [("1", True), ("loud", 0.0), ("nan", 0.0), ("-inf", 0.0)])
def test_a_word_that_means_nothing_is_told(text, now):
    with pytest.raises(UsageError, match=f"'{text}' must be"):
        value_from(text, now)


@pytest.mark.parametrize("value", [True, False, -6.0, 0.1, -119.99999, 12.0, 1e-9, "live", ""])
def test_what_is_shown_can_be_given_again(value):
    assert value_from(shown(value), value) == value


def test_lines_become_one():
    assert shown("a\nb") == "a, b"
    assert shown(34.8, "ms") == "34.8 ms"
    assert shown(3) == "3"
