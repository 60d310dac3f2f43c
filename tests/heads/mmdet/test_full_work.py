"""Inside `full_work` a two-stage head finds as many instances as it may, whatever its weights and the image."""

import torch

from distill.evaluation.parts import Parts


def test_a_head_finds_all_that_it_may(head_class, small, student, target):
    head = head_class(student.feature_info, ["ship", "plane"], **small, score_threshold=0.6, max_detections=10).eval()
    with torch.no_grad():
        features = student(torch.zeros(1, 3, 64, 64))
    one = target([], [])
    assert len(head.predict(features, [one])[0].scores) == 0
    parts = Parts(head.cost_parts(), rest="regions")
    assert parts.names == ("neck", "proposals", "regions", "masks")
    found = []
    with head.full_work():
        spent = parts.measure(lambda: found.extend(head.predict(features, [one])))
    assert len(found[0].scores) == 10
    assert min(spent.values()) > 0
    assert len(head.predict(features, [one])[0].scores) == 0
    assert "predict" not in vars(head.rpn_head)
