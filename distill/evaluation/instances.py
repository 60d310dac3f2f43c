"""Results of a validation or test of instances."""

from dataclasses import dataclass

from distill.evaluation.coco import CocoEvaluator, summarise
from distill.evaluation.scores import Scores


@dataclass(frozen=True)
class InstanceEvaluation:
    """Predictions and their scores.

    Attributes:
        evaluator: Images, objects and predictions.
        scores: Precision and recall by kind of overlap: "box", "mask", in a test "boundary".
    """

    evaluator: CocoEvaluator
    scores: dict[str, Scores]

    def summary(self) -> dict[str, float]:
        """The averages of each kind as `<kind>/<name>`, see `CocoEvaluator.compute`."""
        return summarise(self.scores)
