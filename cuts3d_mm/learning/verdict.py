"""Judge what a run has learned: by how far its detector agrees with its labels, and why."""

from __future__ import annotations

from dataclasses import dataclass

from cuts3d_mm.configs import SCORE_THR
from cuts3d_mm.visualization.charts import percent


@dataclass(frozen=True)
class VerdictParams:
    """Where a verdict changes.

    Measured with the tiny detector and embedded features: on 96 rendered scenes 9 runs agreed to
    84 to 91 % (74 to 91 % before rounds), 3 runs on 60 to 287 photos to 0.1 to 1.6 % (4.6 % on
    the way), another on 60 photos to 16 % (of 9 objects, by chance), and trainings of 4 to 6 steps
    to 0 %. With more than 10 objects nothing was seen between 5 and 74 %: both
    bounds lie far from what was seen.
    """

    usable: float = 0.1  # smallest mask AP50 against held-out labels of a detector of any use
    good: float = 0.5  # smallest such AP50 of a detector that has learned what its labels show
    few_objects: int = 10  # held-out labels with fewer objects judge by chance
    few_labels: int = 150  # labels to train on; fewer than any run had that agreed (162 to 171)
    short: float = 0.5  # share of the steps that the plan would take by itself


FORESEEN = (
    'warning: the features of {generator} are hand-made and see surfaces, not kinds of objects. '
    'On rendered scenes detectors agreed with such labels to 84 to 91 % (mask AP50), on photos '
    'to 0.1 to 16 %, which is hardly usable: for photos leave out --offline, and DINO is taken'
)


@dataclass(frozen=True)
class Evidence:
    """What a verdict is made from."""

    agreement: float | None  # mask AP50 of the last detector in [0, 1]; None: no held-out label
    num_objects: int  # of held-out images, selected labels alone
    num_images: int  # held-out images
    best_score: float  # of all detections in held-out images, in [0, 1]; 0: there is none
    num_labels: int  # trained on
    steps: int  # of the initial round
    usual_steps: int  # that the plan takes for as many images, where --steps does not say
    is_hand_made: bool  # features of the generator


@dataclass(frozen=True)
class Verdict:
    """What a detector is worth, in words."""

    word: str  # good, weak, not usable or not known
    finding: str  # for whoever has the detector, such as the reader of its model card
    remedy: str = ''  # for whoever runs `learn`

    def __str__(self) -> str:
        return f'{self.finding}; {self.remedy}' if self.remedy else self.finding


def judge(found: Evidence) -> Verdict:
    """Say how far a detector agrees with its labels, what that is worth, and the likely cause."""
    params = VerdictParams()
    if found.agreement is None:
        return Verdict(
            'not known',
            'agrees with its labels to an unknown degree: no held-out image has a label',
            'look at the pictures of the report',
        )
    word = 'not usable' if found.agreement < params.usable else 'weak'
    if found.agreement >= params.good:
        word = 'good'
    objects = f'{found.num_objects} objects of {found.num_images} held-out images'
    few = ', few enough for chance' if found.num_objects < params.few_objects else ''
    finding = (
        f'agrees with its labels to {percent(found.agreement)} % (mask AP50, {objects}{few}): '
        f'{word}'
    )
    if word == 'good':
        return Verdict(word, finding, 'whether its labels show objects, the pictures tell')
    causes = _causes(found, params)
    *others, last = (cause for cause, _ in causes)
    reasons = ' and '.join([', '.join(others), last] if others else [last])
    finding += f'; most likely because {reasons}'
    if found.best_score < SCORE_THR:
        finding += (
            f'; its best score is {found.best_score:.2f}, below the {SCORE_THR:.2f} that cuts3d '
            'detect shows'
        )
    remedies = ', '.join(dict.fromkeys(remedy for _, remedy in causes))
    return Verdict(word, finding, f'choose another OUT {remedies}')


def _causes(found: Evidence, params: VerdictParams) -> list[tuple[str, str]]:
    """What may have led to a bad detector, and what to do about it; at least one."""
    causes = []
    if found.steps < params.short * found.usual_steps:
        causes.append(
            (
                f'it was trained for {found.steps:,} of {found.usual_steps:,} usual steps',
                'without --steps',
            )
        )
    if found.is_hand_made:
        causes.append(('its labels are cut by colour and texture alone', 'without --offline'))
    if found.num_labels < params.few_labels:
        causes.append((f'it has seen no more than {found.num_labels} labels', 'for more images'))
    if not causes:
        causes.append(
            (
                'its labels show something else in each image',
                'for another --config or --depth, after a look at contact_sheet.jpg',
            )
        )
    return causes
