"""Tests of privacy.attacks, privacy.audit and privacy.canaries: attacks that must succeed, protections that must leave chance,
bounds against closed forms and second libraries, and planted faults that must be flagged."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.util import find_spec
from itertools import combinations_with_replacement

import numpy as np
import pytest
import torch
from dp_accounting.pld import privacy_loss_distribution  # type: ignore[import-untyped]
from safetensors.torch import save_file
from scipy import stats  # type: ignore[import-untyped]
from sklearn.metrics import precision_recall_curve, roc_auc_score  # type: ignore[import-untyped]
from torch.optim.optimizer import _global_optimizer_pre_hooks
from transformers import BertConfig, BertModel

from model.emotions import EMOTIONS
from model.examples import Example, bundled_diaries
from model.hub import find_model
from model.refusal import Refusal
from model.settings import RunSettings
from model.weights import Weights
from privacy.attacks import (
    DoesNotApply,
    Found,
    Sight,
    Values,
    area_of,
    count_labels,
    find_places,
    find_text,
    find_words,
    found_by,
    hanley_mcneil,
    input_of,
    read_label,
)
from privacy.audit import PLAIN, Extent, Finding, Protection, Subject, audit, protections
from privacy.canaries import (
    FAULTS,
    EmpiricalEpsilon,
    HalfTheNoise,
    Stage,
    canary_epsilon,
    canary_user_epsilon,
    clopper_pearson_lower,
    epsilon_from,
    gaussian_epsilon,
    self_test,
)
from privacy.plan import PrivacyPlan, calibrated
from privacy.randomness import SecureRandom
from privacy.user_accounting import UserPlan

KEY = bytes(range(32))
WIDTH = 128


@pytest.fixture(scope="module")
def diaries() -> tuple[Example, ...]:
    return bundled_diaries()[0].examples


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The compact model's tokenizer on a body of two narrow layers with weights of no training: a quarter of the values."""
    folder = tmp_path_factory.mktemp("narrow")
    (folder / "tokenizer.json").write_bytes((find_model("compact") / "tokenizer.json").read_bytes())
    shape = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 256}
    config = BertConfig(vocab_size=8000, max_position_embeddings=64, pad_token_id=1, **shape)
    (folder / "config.json").write_text(json.dumps(config.to_dict() | {"pooling": "mean"}), encoding="utf-8")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        save_file(BertModel(config).state_dict(), folder / "model.safetensors")
    return str(folder)


@pytest.fixture(scope="module")
def settings(narrow: str) -> RunSettings:
    """Full-batch private steps, for which the noise is soon calibrated."""
    return RunSettings(model=narrow, max_tokens=12, rounds=1, clients=5, sampling_rate=1.0, learning_rate=0.01)


FEW = Extent(entries=4, small_diaries=(1, 2), single_entries=2, decoys=12)


@pytest.fixture(scope="module")
def findings(settings: RunSettings, diaries: tuple[Example, ...]) -> dict[tuple[str, str], Finding]:
    """By protection and tuning, of everything trained and of the two ends of less."""
    found = audit(settings, diaries, tunings=("probe", "head", "top1", "full"), extent=FEW)
    return {(finding.protection, finding.tuning): finding for finding in found}


PROTECTED = ("example-level", "user-level, readers", "masked", *(("encrypted",) if find_spec("tenseal") else ()))
SEEN = ("plain", "user-level, server")
"""Where the server has one device's update before any noise."""


# scores


@pytest.mark.parametrize("levels", [2, 5, 1000])
@pytest.mark.parametrize("seed", range(4))
def test_the_area_and_the_best_threshold_are_those_of_scikit_learn_ties_and_all(levels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random(60) < 0.3
    scores = rng.integers(0, levels, 60) + truth * rng.integers(0, levels, 60)
    found = found_by(scores.astype(np.float64), truth)
    assert found.area.auc == pytest.approx(roc_auc_score(truth, scores))
    precision, recall, _ = precision_recall_curve(truth, scores)
    assert found.f1 == pytest.approx(max(2 * p * r / (p + r) for p, r in zip(precision, recall, strict=True) if p + r > 0))
    assert found.chance == pytest.approx(2 * truth.mean() / (1 + truth.mean()))


@pytest.mark.parametrize("separation", [1.0, 2.0, 6.0])
def test_the_standard_error_is_the_spread_of_areas_of_exponential_scores_for_which_it_was_derived(separation: float) -> None:
    rng = np.random.default_rng(1)
    positives, negatives, repeats = 20, 30, 4000
    high, low = rng.exponential(separation, (repeats, positives, 1)), rng.exponential(1.0, (repeats, 1, negatives))
    areas = (high > low).mean(axis=(1, 2))
    assert hanley_mcneil(separation / (1 + separation), positives, negatives) == pytest.approx(areas.std(), rel=0.06)


def test_a_score_that_is_not_a_number_counts_as_the_lowest_and_one_kind_alone_is_refused() -> None:
    truth = np.array([True, False, True, False])
    assert area_of(np.array([np.nan, 1.0, np.nan, 2.0]), truth).auc == 0.0
    with pytest.raises(Refusal, match="both kinds"):
        area_of(np.zeros(3), np.ones(3, dtype=bool))


# Adam's step, turned back


@pytest.mark.parametrize("clipped", [1.0, 0.037])
def test_one_step_of_adam_gives_its_gradient_back_even_from_a_clipped_update(clipped: float) -> None:
    rng = np.random.default_rng(0)
    before = Weights({"matrix": rng.normal(0, 0.05, (200, 30)).astype(np.float32), "idle": np.ones(5, dtype=np.float32)})
    gradient = rng.normal(0, 1, (200, 30)) * 10.0 ** rng.uniform(-6, 0, (200, 30))
    parameter = torch.nn.Parameter(torch.from_numpy(before["matrix"].copy()))
    parameter.grad = torch.from_numpy(gradient).float()
    torch.optim.AdamW([parameter], lr=2e-3, weight_decay=0.01, fused=True).step()
    moved = parameter.detach().numpy() - before["matrix"]
    idle = np.full(5, -2e-5, dtype=np.float32)
    sight = Sight(Weights({"matrix": moved, "idle": idle}).scale(clipped), before, (2e-3,), 0.01)
    told = sight.gradients["matrix"]
    fine = (np.abs(gradient) > 1e-7) & (np.abs(gradient) < 1e-4)
    assert np.median(np.abs(told[fine] / gradient[fine] - 1)) < 0.02
    assert (np.sign(told) == np.sign(gradient)).mean() > 0.999
    assert np.abs(sight.moved["idle"]).max() < 1e-7 < 2e-4 < np.abs(sight.moved["matrix"]).max()


# what must be found, and what must not


@pytest.mark.parametrize("protection", SEEN)
def test_the_rows_that_moved_are_the_words_where_the_server_sees_a_full_update(
    findings: dict[tuple[str, str], Finding], protection: str
) -> None:
    words = findings[protection, "full"].words
    assert isinstance(words, Found)
    assert (words.precision, words.recall, words.area.auc) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("protection", PROTECTED)
def test_noise_and_masks_leave_no_word(findings: dict[tuple[str, str], Finding], protection: str) -> None:
    words = findings[protection, "full"].words
    assert isinstance(words, Found)
    assert abs(words.area.auc - 0.5) < 5 * hanley_mcneil(0.5, words.area.positives, words.area.negatives)
    assert words.f1 < 0.3


@pytest.fixture(scope="module")
def pretrained(diaries: tuple[Example, ...]) -> Subject:
    """The compact model whole. (In an untrained body attention is even, and all words' gradients point the same way.)"""
    return Subject(RunSettings(tuning="full", max_tokens=12, dropout=0.0, rounds=1), diaries[: FEW.examples], FEW)


@pytest.mark.parametrize("protection", SEEN)
def test_every_word_is_found_at_its_place_from_a_gradient_and_most_from_the_update(pretrained: Subject, protection: str) -> None:
    way = next(way for way in protections(RunSettings()) if way.name == protection)
    diary = pretrained.small_diary(way, 2)
    assert _f1(diary.from_gradient) == 1.0
    assert _f1(diary.from_update) > 0.7


@pytest.mark.parametrize("protection", PROTECTED)
def test_noise_and_masks_leave_no_word_at_its_place(findings: dict[tuple[str, str], Finding], protection: str) -> None:
    for diary in findings[protection, "full"].small_diaries:
        for found in (diary.from_gradient, diary.from_update):
            assert isinstance(found, Found)
            assert found.f1 < 0.2


@pytest.mark.parametrize("tuning", ["head", "top1"])
def test_where_no_matrix_reads_single_words_the_attack_says_so_and_gives_no_number(
    findings: dict[tuple[str, str], Finding], tuning: str
) -> None:
    for protection in (*SEEN, *PROTECTED):
        finding = findings[protection, tuning]
        assert isinstance(finding.words, DoesNotApply)
        assert "frozen" in finding.words.reason
        for diary in finding.small_diaries:
            assert isinstance(diary.from_gradient, DoesNotApply)
            assert {"head": "pooled", "top1": "trunk"}[tuning] in diary.from_gradient.reason


@pytest.mark.parametrize("tuning", ["probe", "head", "top1", "full"])
@pytest.mark.parametrize("protection", SEEN)
def test_a_single_entry_is_named_among_decoys_with_its_label_whatever_is_tuned(
    findings: dict[tuple[str, str], Finding], protection: str, tuning: str
) -> None:
    single = findings[protection, tuning].single_entries
    assert single.ranks == (1, 1)
    assert (single.first, single.auc, single.labels_right) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("protection", PROTECTED)
def test_under_noise_and_masks_a_single_entry_hides_among_the_decoys(
    settings: RunSettings, diaries: tuple[Example, ...], protection: str
) -> None:
    many = Extent(entries=2, small_diaries=(1,), single_entries=16, decoys=40)
    way = next(way for way in protections(settings) if way.name == protection)
    (finding,) = audit(settings, diaries, tunings=("head",), protected=[way], extent=many)
    assert abs(finding.single_entries.auc - 0.5) < 5 * math.sqrt(1 / 12 / 16)
    assert finding.single_entries.first - finding.single_entries.chance < 0.5


def test_members_stand_out_without_privacy_and_the_audit_does_not_see_members_in_a_device_that_did_not_train(
    narrow: str, diaries: tuple[Example, ...]
) -> None:
    longer = RunSettings(model=narrow, max_tokens=12, local_epochs=15, rounds=1, learning_rate=1e-3)
    idle = Protection("idle", "nobody", PLAIN, lambda update: update.scale(0.0))
    extent = Extent(entries=16, small_diaries=(1,), single_entries=1, decoys=4)
    trained, still = audit(longer, diaries, tunings=("full",), protected=[protections(longer)[0], idle], extent=extent)
    assert trained.membership.auc > 0.5 + 3 * trained.membership.standard_error
    assert still.membership.auc == 0.5


def test_another_persons_words_are_not_found_in_the_update(pretrained: Subject, diaries: tuple[Example, ...]) -> None:
    """An attack that always succeeded would succeed here too."""
    settings = RunSettings(tuning="full", max_tokens=12, dropout=0.0, rounds=1)
    way = protections(settings)[0]
    classifier, gradient = pretrained.classifier, pretrained.gradient(way, 1)
    moved = pretrained.sight(way, 0, 1, settings).moved
    own, others = (classifier.encode([diaries[row].text], max_tokens=12) for row in (0, 20))
    assert _f1(find_words(moved, classifier, own)) == 1.0
    assert _f1(find_places(gradient, classifier, own)) > 0.8
    assert _f1(find_words(moved, classifier, others)) < 0.6
    assert _f1(find_places(gradient, classifier, others)) < 0.6


def test_the_head_s_weights_of_projected_n_grams_name_no_word(diaries: tuple[Example, ...]) -> None:
    settings = RunSettings(tuning="head", max_tokens=40, dropout=0.0, rounds=1)
    plain_way, *_ = protections(settings)
    subject = Subject(settings, diaries[: FEW.examples], FEW)
    moved = subject.sight(plain_way, 0, 1, settings).moved
    assert "head.words.weight" in moved
    assert isinstance(find_words(moved, subject.classifier, subject.classifier.encode([diaries[0].text], max_tokens=40)), DoesNotApply)


def _f1(found: Found | DoesNotApply) -> float:
    assert isinstance(found, Found)
    return found.f1


def test_more_tokens_than_the_layer_is_wide_are_not_sought(settings: RunSettings, diaries: tuple[Example, ...]) -> None:
    subject = Subject(replace(settings, tuning="full", dropout=0.0), diaries[: FEW.examples], FEW)
    tokens = subject.classifier.encode([example.text for example in diaries[:14]], max_tokens=12)
    found = find_places(subject.gradient(protections(settings)[0], 1), subject.classifier, tokens)
    assert isinstance(found, DoesNotApply)
    assert f"all {WIDTH} dimensions" in found.reason


def test_a_matrix_of_one_input_names_that_input_and_an_empty_one_names_nobody() -> None:
    rng = np.random.default_rng(2)
    candidates = rng.normal(size=(50, 16))

    def rank(matrix: Values) -> int:
        return find_text(input_of({"head.pooler.weight": matrix}), candidates)

    assert rank(np.outer(rng.normal(size=9), candidates[0])) == 1
    assert rank(np.outer(rng.normal(size=9), candidates[7])) > 1
    assert rank(np.zeros((9, 16))) == 50


@pytest.mark.parametrize("clipped", [1.0, 0.4])
@pytest.mark.parametrize("labels", list(combinations_with_replacement(range(4), 4)))
def test_labels_are_counted_from_the_bias_of_one_gradient(labels: tuple[int, ...], clipped: float) -> None:
    counts, mean = np.bincount(labels, minlength=4), np.array([0.26, 0.24, 0.27, 0.23])
    gradients = {"head.classifier.bias": clipped * (mean - counts / 4)}
    assert np.abs(count_labels(gradients, 4, mean) - counts).sum() <= 2
    if len(set(labels)) == 1:
        assert EMOTIONS[read_label(gradients)].id == labels[0]


# the audit as a whole


def test_the_audit_tells_no_word_of_any_diary(findings: dict[tuple[str, str], Finding], diaries: tuple[Example, ...]) -> None:
    told = json.dumps([asdict(finding) for finding in findings.values()], ensure_ascii=False)
    assert not [letter for letter in told if "가" <= letter <= "힣"]


def test_the_same_seed_gives_the_same_findings_without_noise_and_another_seed_others(
    settings: RunSettings, diaries: tuple[Example, ...]
) -> None:
    extent = Extent(entries=6, small_diaries=(2,), single_entries=2, decoys=10)

    def once(seed: int) -> tuple[Finding, ...]:
        return audit(replace(settings, seed=seed), diaries, tunings=("head",), protected=protections(settings)[:1], extent=extent)

    assert once(1) == once(1) != once(2)


def test_the_audit_says_where_it_is_and_refuses_too_few_entries(settings: RunSettings, diaries: tuple[Example, ...]) -> None:
    stages: list[Stage] = []
    extent = Extent(entries=2, small_diaries=(1,), single_entries=1, decoys=3)
    audit(settings, diaries, tunings=("head",), protected=protections(settings)[:1], extent=extent, on_stage=stages.append)
    assert [(stage.done, stage.total) for stage in stages] == [(0, 1), (1, 1)]
    with pytest.raises(Refusal, match="needs 7 entries and the data has 6"):
        audit(settings, diaries[:6], extent=extent)


@pytest.mark.parametrize(
    "wrong",
    [{"entries": 1}, {"decoys": 0}, {"single_entries": 0}, {"small_diaries": ()}, {"small_diaries": (0,)}, {"small_diaries": (99,)}],
)
def test_an_extent_that_could_not_measure_anything_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(Refusal, match="audit"):
        Extent(**wrong)  # type: ignore[arg-type]


# lower bounds of epsilon


@pytest.mark.parametrize("mu", [0.1, 0.9, 2.0, 5.0])
@pytest.mark.parametrize("delta", [1e-6, 1e-4, 1e-2])
def test_the_epsilon_of_a_gaussian_is_that_of_a_privacy_loss_distribution(mu: float, delta: float) -> None:
    exact = privacy_loss_distribution.from_gaussian_mechanism(1 / mu, value_discretization_interval=1e-3)
    assert gaussian_epsilon(mu, delta) == pytest.approx(exact.get_epsilon_for_delta(delta), abs=5e-3)


def test_the_epsilon_of_no_difference_is_zero_and_of_an_endless_one_infinite() -> None:
    assert gaussian_epsilon(-1.0, 1e-4) == gaussian_epsilon(0.0, 1e-4) == gaussian_epsilon(1e-6, 1e-4) == 0.0
    assert math.isinf(gaussian_epsilon(1e5, 1e-4))
    assert 700 < gaussian_epsilon(35.0, 1e-4) < 1000


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (3, 10), (10, 10), (499, 500)])
@pytest.mark.parametrize("level", [0.05, 0.001])
def test_the_rate_is_clopper_and_pearsons(successes: int, trials: int, level: float) -> None:
    exact = stats.beta.ppf(level, successes, trials - successes + 1) if successes else 0.0
    assert clopper_pearson_lower(successes, trials, level) == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize("gaussian", [True, False])
def test_a_bound_is_above_the_truth_no_oftener_than_its_confidence_says_and_not_far_below(gaussian: bool) -> None:
    rng, delta, mu = np.random.default_rng(5), 1e-3, 1.0
    true = gaussian_epsilon(mu, delta)
    scores = [(rng.normal(mu, 1, 300), rng.normal(0, 1, 300)) for _ in range(200)]
    bounds = [epsilon_from(*pair, delta, claimed=true, confidence=0.9, gaussian=gaussian) for pair in scores]
    assert sum(bound.flagged for bound in bounds) <= stats.binom.ppf(0.9999, 200, 0.1)
    assert np.median([bound.at_least for bound in bounds]) > (0.75 if gaussian else 0.15) * true


def test_a_threshold_bound_finds_the_epsilon_of_randomised_response() -> None:
    rng, truth = np.random.default_rng(6), math.log(0.8 / 0.2)
    inside, outside = (rng.random(4000) < chance for chance in (0.8, 0.2))
    bound = epsilon_from(inside.astype(float), outside.astype(float), 1e-9, claimed=truth, confidence=0.95, gaussian=False)
    assert 0.8 * truth < bound.at_least <= truth
    assert not bound.flagged


def test_scores_that_do_not_vary_are_told_apart_for_certain_or_not_at_all() -> None:
    same = np.ones(20)
    certain = epsilon_from(same, same - 1, 1e-4, claimed=4.0, confidence=0.99, gaussian=True)
    assert math.isinf(certain.at_least)
    assert certain.flagged
    assert epsilon_from(same, same, 1e-4, claimed=4.0, confidence=0.99, gaussian=True).at_least == 0.0


# the real pipeline, as it is and with planted faults; keyed noise, so that a test says the same every day


def keyed(kind: type[SecureRandom]) -> Callable[[], SecureRandom]:
    """A new stream for each round, always the same ones."""
    numbers = iter(range(2**16))
    return lambda: kind(bytes([*divmod(next(numbers), 256), *KEY[2:]]))


def full_batch() -> PrivacyPlan:
    return calibrated(RunSettings(epsilon=4.0, rounds=1, sampling_rate=1.0, local_epochs=4))


@pytest.mark.parametrize(("kind", "flagged"), [(SecureRandom, False), (HalfTheNoise, True)])
def test_the_private_pipeline_is_not_flagged_and_half_its_noise_is(kind: type[SecureRandom], flagged: bool) -> None:
    plan = full_batch()
    measured = canary_epsilon(RunSettings(), plan, rounds=1, claimed=plan.epsilon(1), randomness=keyed(kind), canaries=256)
    assert measured.flagged is flagged
    assert (measured.canaries, measured.method, measured.confidence) == (256, "Gaussian-DP mean", 0.99)
    assert measured.at_least > 1.0  # an audit that hears nothing would not flag anything either


def test_sampled_steps_are_audited_by_a_threshold() -> None:
    plan = PrivacyPlan(noise_multiplier=0.5, sampling_rate=0.5, clip_norm=1.0, delta=1e-4, steps_per_round=8)
    claimed = plan.epsilon(1)
    measured = canary_epsilon(RunSettings(), plan, rounds=1, claimed=claimed, randomness=keyed(SecureRandom), canaries=256)
    assert measured.method == "Clopper-Pearson"
    assert 0.5 < measured.at_least < claimed


def test_a_broken_pipeline_leaves_no_listener_behind() -> None:
    before = len(_global_optimizer_pre_hooks)

    def breaks(*_: object) -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        canary_epsilon(RunSettings(), full_batch(), rounds=1, claimed=4.0, pipeline=breaks, canaries=16)
    assert len(_global_optimizer_pre_hooks) == before


def user_plan(noise: float = 1.2) -> UserPlan:
    return UserPlan(noise_multiplier=noise, clip_norm=0.5, delta=1e-3, clients=10, clients_per_round=10, sampling="full")


@pytest.mark.parametrize(("kind", "flagged"), [(SecureRandom, False), (HalfTheNoise, True)])
def test_the_user_level_sum_is_not_flagged_and_half_its_noise_is(kind: type[SecureRandom], flagged: bool) -> None:
    claimed = user_plan().epsilon(2)
    measured = canary_user_epsilon(user_plan(), rounds=2, claimed=claimed, seed=7, randomness=keyed(kind), canaries=512)
    assert measured.flagged is flagged
    assert measured.at_least > 0.5 * claimed


def test_a_user_level_noise_that_forgets_the_number_of_devices_is_flagged() -> None:
    """The classic fault: the noise is made for a mean that was divided by m already."""
    measured = canary_user_epsilon(user_plan(1.2 / 10), rounds=1, claimed=user_plan(1.2).epsilon(1), seed=7, canaries=64)
    assert measured.flagged


def test_too_few_canaries_and_sampled_rounds_of_people_are_refused() -> None:
    with pytest.raises(Refusal, match="at least 16"):
        canary_epsilon(RunSettings(), full_batch(), rounds=1, claimed=4.0, canaries=15)
    with pytest.raises(Refusal, match="full rounds"):
        canary_user_epsilon(replace(user_plan(), clients=20, sampling="fixed"), rounds=1, claimed=4.0, seed=1)


def test_a_trial_passes_if_and_only_if_what_is_flagged_was_planted() -> None:
    trials = self_test(RunSettings(), faults=FAULTS[:1], canaries=64, confidence=1 - 1e-6)
    assert [(trial.name, trial.planted, trial.passed) for trial in trials] == [("as it is", False, True)]
    loud = EmpiricalEpsilon(4.0, 9.0, 0.99, 64, "Gaussian-DP mean")
    assert not replace(trials[0], epsilon=loud).passed
    assert replace(trials[0], epsilon=loud, planted=True).passed


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("HEALING_AUDIT") != "1", reason="half a minute and fresh noise; set HEALING_AUDIT=1")
def test_the_self_test_flags_every_planted_fault_and_nothing_else() -> None:
    trials = {trial.name: trial for trial in self_test(RunSettings(), confidence=0.999)}
    assert all(trial.passed for trial in trials.values()), trials
    assert trials["as it is"].epsilon.at_least > 3.0
    assert trials["half the noise"].epsilon.at_least > 7.0
    assert trials["accountant reset between two rounds"].epsilon.at_least > 5.0
    assert math.isinf(trials["no clipping"].epsilon.at_least)


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("HEALING_AUDIT") != "1", reason="minutes: the bundled model whole; set HEALING_AUDIT=1")
def test_the_bundled_model_gives_away_what_was_measured_before(diaries: tuple[Example, ...]) -> None:
    settings = RunSettings(max_tokens=40, local_epochs=5, rounds=1, learning_rate=1e-3)
    plain, private = audit(settings, diaries, tunings=("full",), protected=protections(settings)[:2], extent=Extent(single_entries=2))
    assert isinstance(plain.words, Found)
    assert isinstance(private.words, Found)
    assert (plain.words.precision, plain.words.recall) == (1.0, 1.0)
    assert abs(private.words.area.auc - 0.5) < 0.05
    assert plain.membership.auc > 0.95
    assert private.membership.auc < 0.8
