from distill.errors import did_you_mean, unknown_name


def test_unknown_name_offers_the_nearest_first() -> None:
    message = str(unknown_name("RS4D variant", "smal", ["tiny", "small", "base"]))
    assert message == "unknown RS4D variant 'smal': did you mean small? valid names are tiny, small, base"


def test_unknown_name_without_a_near_one_lists_all() -> None:
    assert "did you mean" not in str(unknown_name("variant", "zzz", ["tiny", "small"]))


def test_did_you_mean_asks_only_for_near_names() -> None:
    assert did_you_mean("smal", ["tiny", "small"]) == "did you mean small? "
    assert did_you_mean("zzz", ["tiny", "small"]) == ""


def test_of_many_names_only_the_nearest_are_listed() -> None:
    names = [f"max_{i}" for i in range(40)] + ["steps"]
    assert str(unknown_name("key", "stepz", names)) == "unknown key 'stepz': did you mean steps?"
    message = str(unknown_name("key", "zzz", names))
    assert message.startswith("unknown key 'zzz': valid names are ")
    assert message.endswith(" and 36 more")
    assert len(message.split(", ")) == 5
