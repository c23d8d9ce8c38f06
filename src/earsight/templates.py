"""Templates of pages and cards: what is not given is an error."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def strict_templates(package: str, *, autoescape: bool = True, **options: Any) -> Environment:
    """The templates of a package, in its folder ``templates``.

    Args:
        package: its full name.
        autoescape: whether what they are given is escaped, as pages need.
        options: more of Jinja's.
    """
    return Environment(
        loader=PackageLoader(package),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        **options,
    )
