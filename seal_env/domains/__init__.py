"""Kinds of tasks, each behind one interface: see :class:`Domain`."""

from seal_env.domains.config import EnvConfig, Keyword, keyword, keyword_reference
from seal_env.domains.domain import DOMAINS, Domain, domain_of, from_keywords

__all__ = ["DOMAINS", "Domain", "EnvConfig", "Keyword", "domain_of", "from_keywords", "keyword", "keyword_reference"]
