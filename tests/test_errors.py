from distill.errors import unknown_name


def test_unknown_name_offers_the_nearest_first() -> None:
    message = str(unknown_name("RS4D variant", "smal", ["tiny", "small", "base"]))
    assert message == "unknown RS4D variant 'smal': did you mean small? valid names are tiny, small, base"


def test_unknown_name_without_a_near_one_lists_all() -> None:
    assert "did you mean" not in str(unknown_name("variant", "zzz", ["tiny", "small"]))
