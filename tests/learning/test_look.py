"""What is said of the images before anything is done."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cuts3d_mm.images.listing import list_images
from cuts3d_mm.learning.planning import look_at


def test_sizes_and_unreadable_files_are_counted(tmp_path):
    for name, image_hw in (('a', (20, 30)), ('b', (40, 30)), ('c', (50, 60))):
        Image.fromarray(np.zeros((*image_hw, 3), np.uint8)).save(tmp_path / f'{name}.png')
    (tmp_path / 'broken.jpg').write_bytes(b'no image')
    look = look_at(list_images(tmp_path))
    assert look.unreadable == ('broken.jpg',) and look.num_images == 4
    assert (look.smallest_hw, look.median_hw, look.largest_hw) == ((20, 30), (40, 30), (50, 60))
    assert look.describe() == [
        '4 images, 30 x 20 to 60 x 50 pixels, 30 x 40 in the middle',
        '1 cannot be read: broken.jpg',
    ]


def test_a_folder_without_a_readable_image_is_refused(tmp_path):
    (tmp_path / 'broken.jpg').write_bytes(b'no image')
    with pytest.raises(ValueError, match='must hold an image that can be read'):
        look_at(list_images(tmp_path))
