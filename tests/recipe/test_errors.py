"""What the parser says of mistakes, in its own words, still becomes one line: a test for every pattern that reads them.

`distill.recipe.check` finds most of these before; here the parser is asked directly, as of classes that it cannot read.
"""

import argparse

import pytest

from distill.launch.parse import recipe_parser
from distill.recipe import errors
from distill.recipe.compose import compose

DISTIL, BOXES = "rs4d_small", "finetune/nwpu_mask_rcnn_cpu"
CASES = [
    (DISTIL, "--model.optm.lr=1", "_KEY", "unknown key in model 'optm': did you mean optim?"),
    (DISTIL, "--model.optim.rate=1", "_OPTION", "unknown key in model.optim 'rate': valid names are lr,"),
    (DISTIL, "--modle.target=neck", "_OPTION", "unknown recipe key 'modle"),
    (DISTIL, "--model.student.varint=tiny", "_CLASS", "unknown key in model.student 'varint': did you mean variant?"),
    (
        BOXES,
        "--model.head.fc_chanels=3",
        "_FACTORY",
        "unknown key in model.head 'fc_chanels': did you mean fc_channels",
    ),
    (
        DISTIL,
        "--model.student={class_path: timm.create_model, init_args: {model_nam: x}}",
        "_OPTION",
        "unknown key in model.student 'model_nam': did you mean model_name?",
    ),
    (
        BOXES,
        "--model.head={class_path: timm.create_model, init_args: {cach_dir: x}}",
        "_FACTORY",
        "unknown key in model.head 'cach_dir': did you mean cache_dir?",
    ),
    (DISTIL, "--model.student=students.RS4E", "_ATTRIBUTE", "unknown class in model.student (module students) 'RS4E'"),
    (DISTIL, "--model.student=student.RS4D", "_MODULE", "model.student: there is no module 'student'; classes live in"),
    (DISTIL, "--model.student=torch.nn.Linear", "_REQUIRED", "model.student needs in_features, out_features;"),
    (DISTIL, "--trainer.precision=7", "_MISTYPED", "trainer.precision: given 7, expected 64, 32, 16, "),
    (BOXES, "--model.head.fc_channels=wide", "_AGAIN", "model.head.fc_channels: given wide, expected a whole number;"),
    (DISTIL, "--model.optim.lr=fast", "_NESTED", "model.optim.lr: given fast, expected a number;"),
    (DISTIL, "--model.corruption.noise=[1]", "_NOISE", "model.corruption.noise: given [1], expected a number;"),
    (DISTIL, "--trainer.callbacks=3", "_GIVEN", "trainer.callbacks: given 3, expected "),
]


@pytest.mark.parametrize(("name", "word", "pattern", "expected"), CASES)
def test_a_pattern_reads_the_message(name: str, word: str, pattern: str, expected: str) -> None:
    recipe = compose([name])
    with pytest.raises(argparse.ArgumentError) as error:
        recipe_parser("fit")[0].parse_args([*recipe.words, word])
    message = str(error.value)
    reader = vars(errors)[pattern]
    lines = [part for line in message.splitlines() for part in (line, line.partition("Given value: ")[2])]
    assert reader in message if isinstance(reader, str) else any(reader.search(line.strip()) for line in lines)
    said = str(errors.explain(message))
    assert expected in said
    assert "Namespace" not in said
    assert len(said.splitlines()) == 1
