import subprocess
import sys

import cxr_cft.metrics


def test_importing_the_package_imports_no_heavy_library():
    code = (
        "import sys, cxr_cft.metrics; dir(cxr_cft.metrics); "
        "print([name for name in ('numpy', 'scipy', 'sklearn', 'pygad', 'torch', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there():
    assert "auroc" in cxr_cft.metrics.__all__
    assert all(hasattr(cxr_cft.metrics, name) for name in cxr_cft.metrics.__all__)
