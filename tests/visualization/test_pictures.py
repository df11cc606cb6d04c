from __future__ import annotations

from cuts3d_mm.visualization.pictures import picture_name


def test_pictures_keep_their_names_and_those_of_other_formats_get_a_suffix():
    assert [picture_name(n) for n in ('a/x.jpg', 'x.PNG', 'x.webp', 'x')] == [
        'a/x.jpg', 'x.PNG', 'x.webp.jpg', 'x.jpg'
    ]  # fmt: skip
