"""Classification and distillation losses against their formulas written out."""

from __future__ import annotations

import pytest
import torch
from scipy.special import expit, rel_entr, softmax

from experiments.common.losses.classification import classification_loss, smooth
from experiments.common.losses.distillation import distillation_loss
from experiments.common.losses.mixup import mixed_or_cut


def test_smoothing_keeps_the_sum_of_one_label_and_moves_the_given_share():
    label = torch.tensor([[1.0, 0, 0, 0], [0.3, 0.7, 0, 0]])
    smoothed = smooth(label, 0.2)
    torch.testing.assert_close(smoothed, torch.tensor([[0.85, 0.05, 0.05, 0.05], [0.29, 0.61, 0.05, 0.05]]))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_are_the_written_out_ones(smoothing):
    torch.manual_seed(0)
    logits, label = torch.randn(5, 4), torch.rand(5, 4)
    target = (1 - smoothing) * label + smoothing / 4
    p = torch.sigmoid(logits)
    expected = -(target * p.log() + (1 - target) * (1 - p).log()).mean()
    torch.testing.assert_close(classification_loss(logits, label, True, smoothing), expected)
    expected = -(target * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(classification_loss(logits, label, False, smoothing), expected)


def test_half_precision_logits_are_judged_in_full():
    logits, label = torch.tensor([[30.0, -30]], dtype=torch.bfloat16), torch.tensor([[0.0, 1]])
    assert classification_loss(logits, label, True).dtype == torch.float32


CERTAIN, OPPOSED = torch.tensor([[200.0, -200, 0], [-200, 200, 0]]), torch.tensor([[-90.0, 90, 1], [1, 2, 3]])


@pytest.mark.parametrize("multilabel", [True, False])
@pytest.mark.parametrize(
    ("student", "teacher"),
    [(torch.randn(5, 4), torch.randn(5, 4)), (OPPOSED.bfloat16(), CERTAIN.bfloat16())],
    ids=["random", "certain, in half precision"],
)
def test_distillation_is_the_divergence_of_the_teacher_s_probabilities_and_the_student_s(student, teacher, multilabel):
    """Over the classes of a clip; with several labels, of each class for itself."""
    student = student.clone().requires_grad_()
    loss = distillation_loss(student, teacher, multilabel)
    loss.backward()
    z, t = (x.detach().double().numpy() for x in (student, teacher))
    one = rel_entr(softmax(t, axis=1), softmax(z, axis=1)).sum(axis=1).mean()
    several = (rel_entr(expit(t), expit(z)) + rel_entr(expit(-t), expit(-z))).mean()
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(several if multilabel else one, rel=1e-5)
    assert student.grad.isfinite().all()


@pytest.mark.parametrize(
    ("mixup", "cutmix", "ways"), [(0, 0, set()), (1, 0, {"mixed"}), (0, 1, {"cut"}), (1, 1, {"mixed", "cut"})]
)
def test_labels_are_shared_as_the_pictures_of_a_clip_and_its_partner_are(mixup, cutmix, ways):
    """The first clip is black and its partner, the last, is white."""
    torch.manual_seed(0)
    video = torch.tensor([0.0, 1, 1, 1]).view(4, 1, 1, 1, 1).expand(4, 3, 2, 30, 20)
    found, shares = set(), []
    for _ in range(300):
        seen, label = mixed_or_cut(video, torch.eye(4), mixup, cutmix)
        whites = seen[0].unique()
        found.add("mixed" if 0 < whites[0] < 1 else "cut" if whites[-1] == 1 else "as it was")
        torch.testing.assert_close(seen[0].mean(), label[0, 3], rtol=0, atol=1e-5)
        torch.testing.assert_close(label.sum(1), torch.ones(4))
        assert torch.equal(seen[0, 0, 0], seen[0, 2, 1])
        shares.append(float(label[0, 3]))
    assert found - {"as it was"} == ways and bool(ways) == (max(shares) > 0.5)
    if cutmix == 0 and mixup:
        assert abs(sum(shares) / 300 - 0.5) < 0.07  # Beta(1, 1)
