import pytest

from cluster.artifacts import Artifact
from jobs.dataset import DatasetConfig, dataset
from jobs.factors import FactorsConfig, factors


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Artifact:
    """Factors of the dataset food."""
    storage = str(tmp_path_factory.mktemp("factors"))
    food = dataset(DatasetConfig(storage=storage, name="food"))
    return factors(FactorsConfig(storage=storage, datasets=[food.uri]))
