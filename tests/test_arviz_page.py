"""Each block of docs/arviz.md runs, and what the page says of it holds."""

import numpy as np
import pytest

from .pages import run_page

pytest.importorskip("arviz_base")
pytest.importorskip("arviz_stats")
pytest.importorskip("h5netcdf")


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:Estimated shape parameter")
def test_blocks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope, _ = run_page("arviz.md")
    assert (tmp_path / "fit.nc").stat().st_size > 0
    assert scope["evidence"] > scope["tree"].attrs["elbo"]
    assert abs(scope["loo"].elpd - scope["corrected"].elpd) < 5
    assert scope["log_lik"].shape == (100, 500)
    total = np.asarray(scope["model"].log_predictive(scope["fit"], scope["x"])).sum()
    assert abs(scope["loo"].elpd - total) < 25
