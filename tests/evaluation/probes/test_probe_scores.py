import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from distill.errors import UserError
from distill.evaluation.probes.accuracy import balanced_accuracy
from distill.evaluation.probes.linear import PENALTY, fit_linear
from distill.evaluation.probes.neighbours import NEIGHBOURS, nearest_classes
from distill.evaluation.probes.scores import Labelled, few_shot_score, linear_score, neighbour_score, standardized

CLASSES = 3


def clusters(count: int, seed: int, weights: tuple[float, ...] = (0.6, 0.3, 0.1)) -> Labelled:
    """Overlapping clusters, one class rarer than the other, channels of very different scale, the last one constant."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.multinomial(torch.tensor(weights), count, replacement=True, generator=generator)
    labels[:CLASSES] = torch.arange(CLASSES)
    centres = torch.randn(CLASSES, 12, generator=torch.Generator().manual_seed(99))
    features = centres[labels] + 2 * torch.randn(count, 12, generator=generator)
    features = features * torch.logspace(-2, 2, 12) + 5
    return Labelled(torch.cat([features, torch.full((count, 1), 7.0)], dim=1), labels)


@pytest.fixture(scope="module")
def parts() -> tuple[Labelled, Labelled]:
    return clusters(240, 0), clusters(400, 1)


def as_scikit_learn(train: Tensor, val: Tensor) -> tuple[Tensor, Tensor]:
    scaler = StandardScaler().fit(train.double())
    return torch.from_numpy(scaler.transform(train.double())), torch.from_numpy(scaler.transform(val.double()))


def test_features_are_standardised_as_by_scikit_learn(parts: tuple[Labelled, Labelled]) -> None:
    for own, oracle in zip(standardized(*parts), as_scikit_learn(*(part.features for part in parts)), strict=True):
        torch.testing.assert_close(own.features, oracle)


@pytest.mark.parametrize("penalty", [PENALTY, 1.0])
def test_the_linear_probe_is_scikit_learns(parts: tuple[Labelled, Labelled], penalty: float) -> None:
    train, val = standardized(*parts)
    oracle = LogisticRegression(C=1 / (penalty * len(train)), class_weight="balanced", tol=1e-8, max_iter=2000)
    oracle.fit(train.features, train.labels)
    own = fit_linear(train.features, train.labels, CLASSES, penalty)
    torch.testing.assert_close(own.weight, torch.from_numpy(oracle.coef_), rtol=0, atol=2e-3)
    assert own.predict(val.features).eq(torch.from_numpy(oracle.predict(val.features))).float().mean() > 0.995


def test_nearest_neighbours_are_scikit_learns(parts: tuple[Labelled, Labelled]) -> None:
    train, val = standardized(*parts)
    oracle = KNeighborsClassifier(NEIGHBOURS, metric="cosine").fit(train.features, train.labels)
    own = nearest_classes(train.features, train.labels, val.features, CLASSES)
    assert own.tolist() == oracle.predict(val.features).tolist()


def test_fewer_samples_than_neighbours_all_vote() -> None:
    known = torch.eye(2)
    assert nearest_classes(known, torch.tensor([1, 0]), known, 2, neighbours=9).tolist() == [0, 0]


def test_balanced_accuracy_is_scikit_learns() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, 0, 0, 0, 0, 0, 2, 2, 5])  # some classes are not there
    predicted = torch.randint(6, (9,), generator=generator)
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        expected = balanced_accuracy_score(labels, predicted)
    assert balanced_accuracy(predicted, labels) == pytest.approx(expected)
    assert balanced_accuracy(torch.zeros_like(labels), labels) == pytest.approx(1 / 3)


def test_scale_and_shift_of_channels_change_no_score(parts: tuple[Labelled, Labelled]) -> None:
    """Students of raw and of standardised targets differ in nothing else."""
    train, val = (Labelled(part.features * torch.linspace(-3, 8, 13) + 4, part.labels) for part in parts)
    assert linear_score(train, val, CLASSES) == pytest.approx(linear_score(*parts, CLASSES), abs=0.01)
    assert neighbour_score(train, val, CLASSES) == pytest.approx(neighbour_score(*parts, CLASSES), abs=0.01)


def test_few_shots_repeat_average_and_leave_the_generator_alone(parts: tuple[Labelled, Labelled]) -> None:
    before = torch.get_rng_state()
    scores = [few_shot_score(*parts, CLASSES, shots=8, draws=4) for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert scores[0] == scores[1] != few_shot_score(*parts, CLASSES, shots=8, draws=4, seed=1)
    assert 1 / CLASSES < scores[0] < linear_score(*parts, CLASSES)


def test_more_shots_than_samples_are_refused(parts: tuple[Labelled, Labelled]) -> None:
    with pytest.raises(UserError, match="200 samples of each class"):
        few_shot_score(*parts, CLASSES, shots=200, draws=1)


def test_a_probe_is_fitted_inside_a_validation(parts: tuple[Labelled, Labelled]) -> None:
    expected = linear_score(*parts, CLASSES)
    with torch.inference_mode():
        train, val = (Labelled(part.features.clone(), part.labels.clone()) for part in parts)
        assert linear_score(train, val, CLASSES) == expected
