from __future__ import annotations

import pytest
from torch.utils.data import DataLoader, Dataset

from cuts3d_mm.cli import run_command


class Broken(Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise ValueError('labels must fit: a, got\nb; make them again')


def test_an_error_while_loading_data_is_one_line_in_whatever_process(capsys):
    for num_workers in (0, 1):
        with pytest.raises(SystemExit) as ended:
            run_command(lambda count=num_workers: list(DataLoader(Broken(), num_workers=count)))
        message = capsys.readouterr().err.split(': ', 1)[1]
        assert message == 'labels must fit: a, got b; make them again\n'
        assert ended.value.code == 2
