"""What Terraform's AWS provider takes, of the resources that deploy/aws makes: for a test that needs no registry.

`terraform validate` wants the provider itself, which only Terraform's registry has. PyPI's
`cdktf-cdktf-provider-aws` is generated from the same schema, as Python classes; this reads their signatures. To be run
when deploy/aws gains a kind of resource:
    pip download --no-deps cdktf-cdktf-provider-aws -d /tmp && python -m tools.make_terraform_schema /tmp/cdktf_*.whl
"""

from __future__ import annotations

import ast
import json
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SCHEMA = ROOT / "mlops_platform_tests/unit/terraform_aws_schema.json"
_PACKAGE = "cdktf_cdktf_provider_aws"
# Arguments of every resource, which Terraform itself knows.
META = frozenset({"connection", "count", "depends_on", "for_each", "lifecycle", "provider", "provisioners"})


def used(folder: Path) -> set[str]:
    """The kinds of resources and data sources in a folder's files, data sources as `data.aws_…`."""
    found = set()
    for path in folder.glob("*.tf"):
        for kind, name in re.findall(r"^(resource|data) \"(aws_\w+)\"", path.read_text(encoding="utf-8"), re.MULTILINE):
            found.add(f"data.{name}" if kind == "data" else name)
    return found


def described(wheel: zipfile.ZipFile, kind: str) -> dict[str, Any]:
    """A resource's arguments and the attributes that others may read.

    Args:
        wheel: The package.
        kind: Such as `aws_s3_bucket` or `data.aws_partition`.

    Returns:
        `arguments`: name to whether it is required (a bool), or for a block to {`required`, `arguments`}; `attributes`.
    """
    module = kind.replace("data.aws_", "data_aws_").removeprefix("aws_")
    tree = ast.parse(wheel.read(f"{_PACKAGE}/{module}/__init__.py"))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    config = next(name for name, node in classes.items() if "TerraformMetaArguments" in ast.unparse(node))
    resource = classes[config.removesuffix("Config")]
    properties = {
        node.name.rstrip("_")
        for node in resource.body
        if isinstance(node, ast.FunctionDef) and any("property" in ast.unparse(d) for d in node.decorator_list)
    }
    return {"arguments": _arguments(classes, config), "attributes": sorted(properties)}


def _arguments(classes: dict[str, ast.ClassDef], name: str) -> dict[str, Any]:
    body = classes[name].body
    start = next(node for node in body if isinstance(node, ast.FunctionDef) and node.name == "__init__")
    found: dict[str, Any] = {}
    for argument, default in zip(start.args.kwonlyargs, start.args.kw_defaults, strict=True):
        key = argument.arg.rstrip("_")
        if key in META:
            continue
        hint = ast.unparse(argument.annotation) if argument.annotation else ""
        nested = [each for each in re.findall(r"'(\w+)'", hint) if each in classes]
        required = default is None
        found[key] = {"required": required, "arguments": _arguments(classes, nested[0])} if nested else required
    return found


def main(path: str) -> None:
    """Writes the schema file from a wheel."""
    with zipfile.ZipFile(path) as wheel:
        found = {kind: described(wheel, kind) for kind in sorted(used(ROOT / "deploy/aws"))}
        text = wheel.read(f"{_PACKAGE}/s3_bucket/__init__.py").decode()
    version = re.search(r"providers/hashicorp/aws/([\d.]+)/docs", text)
    schema = {"provider": version[1] if version else "", "kinds": found}
    SCHEMA.write_text(json.dumps(schema, separators=(",", ":"), sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
