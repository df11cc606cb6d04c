"""Each door is called by the tool that it is for where that is installed, else by its likeness."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from helpers.drawn import disc, iou
from PIL import Image
from pycocotools import mask as coco_mask

from cuts3d_mm import api
from cuts3d_mm.inference.results import to_mask_generation
from cuts3d_mm.integrations import label_studio

HW = (60, 90)
MASKS = (disc((20, 25), 12, HW), disc((40, 60), 10, HW) | disc((15, 80), 6, HW))


class Detector:
    """Finds two objects, the second of two parts and of another class."""

    classes = ('cup', 'fork')

    def predict(self, image):
        assert image.shape == (*HW, 3) and image.dtype == np.uint8
        assert image[0, 0].tolist() == [250, 10, 20]  # RGB
        return tuple(
            SimpleNamespace(mask=mask, score=score, label=label, category=self.classes[label])
            for label, (mask, score) in enumerate(zip(MASKS, (0.9, 0.4), strict=True))
        )


@pytest.fixture(autouse=True)
def loaded(monkeypatch):
    """Arguments by which a detector was loaded."""
    calls = []

    def load_detector(*arguments):
        calls.append(arguments)
        return Detector()

    monkeypatch.setattr(api, 'load_detector', load_detector)
    return calls


@pytest.fixture
def picture():
    return Image.new('RGB', HW[::-1], (250, 10, 20))


def install(monkeypatch, real, **contents):
    """Put modules of such contents in the place of a tool that is not installed."""
    try:
        importlib.import_module(real)
    except ImportError:
        for name, content in contents.items():
            module = ModuleType(name.replace('__', '.'))
            module.__dict__.update(content, __path__=[])
            monkeypatch.setitem(sys.modules, module.__name__, module)
            parent, _, last = module.__name__.rpartition('.')
            if parent:
                monkeypatch.setattr(sys.modules[parent], last, module, raising=False)


def encode_mask(bitmap):
    """What CVAT documents: runs row by row within the box, 0 first, then the box."""
    rows, columns = np.flatnonzero(bitmap.any(axis=1)), np.flatnonzero(bitmap.any(axis=0))
    box = bitmap[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].ravel()
    changes = np.flatnonzero(np.diff(box.astype(int), prepend=0, append=2))
    corners = [columns[0], rows[0], columns[-1], rows[-1]]
    return [*np.diff(changes, prepend=0).tolist(), *map(int, corners)]


def decode_cvat(points):
    *runs, left, top, right, bottom = map(int, points)
    values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    mask = np.zeros(HW, bool)
    mask[top : bottom + 1, left : right + 1] = values.reshape(bottom - top + 1, -1)
    return mask


def rasterised(polygons):
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, *HW))) > 0


@pytest.fixture
def cvat(monkeypatch):
    def shape(kind):
        return lambda label_id, points, group=0: SimpleNamespace(
            type=kind, label_id=label_id, points=points, group=group
        )

    sdk = {
        'DetectionFunctionSpec': SimpleNamespace,
        'label_spec': lambda name, id, type: SimpleNamespace(name=name, id=id, type=type),
        'mask': shape('mask'),
        'polygon': shape('polygon'),
    }
    install(
        monkeypatch, 'cvat_sdk.auto_annotation', cvat_sdk={},
        cvat_sdk__auto_annotation=sdk, cvat_sdk__masks={'encode_mask': encode_mask},
    )  # fmt: skip
    return importlib.import_module('cuts3d_mm.integrations.cvat')


def context(conf_threshold=None, conv_mask_to_poly=False):
    return SimpleNamespace(conf_threshold=conf_threshold, conv_mask_to_poly=conv_mask_to_poly)


def test_cvat_gets_its_labels_and_masks_to_the_pixel(cvat, picture, loaded):
    function = cvat.create(model='owner/repo', device='cpu')
    assert loaded == [('owner/repo', None, 'cpu', 0.3)]
    assert [(one.id, one.name, one.type) for one in function.spec.labels] == [
        (0, 'cup', 'mask'), (1, 'fork', 'mask'),
    ]  # fmt: skip
    found = function.detect(context(), picture)
    assert [(str(one.type), one.label_id) for one in found] == [('mask', 0), ('mask', 1)]
    assert (np.array([decode_cvat(one.points) for one in found]) == MASKS).all()
    assert len(function.detect(context(conf_threshold=0.5), picture.convert('RGBA'))) == 1


def test_cvat_gets_polygons_where_it_asks_for_them(cvat, picture):
    found = cvat.create('owner/repo').detect(context(conv_mask_to_poly=True), picture)
    assert [(one.label_id, one.group) for one in found] == [(0, 0), (1, 2), (1, 2)]
    assert iou(rasterised([found[0].points]), MASKS[0]) >= 0.95
    assert iou(rasterised([one.points for one in found[1:]]), MASKS[1]) >= 0.95


@pytest.fixture
def fiftyone(monkeypatch):
    install(
        monkeypatch, 'fiftyone.core.models', fiftyone={}, fiftyone__core={},
        fiftyone__core__labels={'Detection': SimpleNamespace, 'Detections': SimpleNamespace},
        fiftyone__core__models={'Model': object},
    )  # fmt: skip
    return importlib.import_module('cuts3d_mm.integrations.fiftyone')


def test_fiftyone_gets_a_model_by_the_two_functions_of_a_source(fiftyone, tmp_path, picture):
    fiftyone.download_model('cuts3d', str(tmp_path / 'zoo/cuts3d'))
    assert (tmp_path / 'zoo/cuts3d').is_dir()
    model = fiftyone.load_model('cuts3d', str(tmp_path / 'zoo/cuts3d'), model='owner/repo')
    assert model.media_type == 'image' and model.transforms is None and not model.ragged_batches
    first, second = model.predict(np.asarray(picture)).detections
    assert (first.label, first.confidence, second.label) == ('cup', 0.9, 'fork')
    for one, mask in zip((first, second), MASKS, strict=True):
        left, top, width, height = one.bounding_box * np.tile(HW[::-1], 2)
        whole = np.zeros(HW, bool)
        rows, columns = slice(round(top), round(top + height)), slice(round(left), None)
        whole[rows, columns][:, : round(width)] = one.mask
        assert (whole == mask).all()


def test_the_manifest_of_fiftyone_names_the_model_and_lies_next_to_its_functions(fiftyone):
    manifest = json.loads((Path(fiftyone.__file__).parent / 'manifest.json').read_text('utf-8'))
    (model,) = manifest['models']
    assert manifest.keys() >= {'name', 'url'} and model['base_name'] == 'cuts3d'


INTERFACE = """<View><Image name="image" value="$image"/>
<PolygonLabels name="label" toName="image">
<Label value="cup"/><Label value="fork"/></PolygonLabels>
</View>"""


def test_label_studio_gets_polygons_in_percent(tmp_path, picture):
    picture.save(tmp_path / 'a b.png')
    tasks = [{'id': 7, 'data': {'image': '/data/local-files/?d=a b.png'}}]
    (found,) = label_studio.predict_tasks(
        Detector(), tasks, lambda address: str(tmp_path / address.partition('=')[2])
    )
    assert found['score'] == pytest.approx(0.65)
    labels = [one['value']['polygonlabels'] for one in found['result']]
    assert labels == [['cup'], ['fork'], ['fork']]
    assert len({one['id'] for one in found['result']}) == 3
    scale = np.array(HW[::-1]) / 100
    points = [(one['value']['points'] * scale).ravel().tolist() for one in found['result']]
    assert iou(rasterised(points[:1]), MASKS[0]) >= 0.95
    assert iou(rasterised(points[1:]), MASKS[1]) >= 0.95
    assert json.loads(json.dumps(found)) == found


def test_label_studio_finds_the_predictions_valid():
    interface = pytest.importorskip('label_studio_sdk.label_interface')
    found = label_studio.to_label_studio(
        Detector().predict(np.full((*HW, 3), (250, 10, 20), np.uint8)), HW
    )
    interface = interface.LabelInterface(INTERFACE)
    assert interface.validate_prediction(found, return_errors=True) == []
    assert label_studio.to_label_studio((), HW)['result'] == []


def test_transformers_gives_what_its_mask_generation_gives():
    found = to_mask_generation(Detector().predict(np.full((*HW, 3), (250, 10, 20), np.uint8)))
    assert [mask.shape for mask in found['masks']] == [HW] * 2 and found['masks'][0].dtype == bool
    assert found['scores'].tolist() == pytest.approx([0.9, 0.4])
    assert to_mask_generation(())['masks'] == []
