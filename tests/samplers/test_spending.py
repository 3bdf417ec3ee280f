"""A budget holds for a call of a command, whatever stages it has."""

import asyncio

import pytest

from data_tools.errors import UserError
from genrm_lightning.samplers.choice import OpenAISettings
from genrm_lightning.samplers.replies import Usage
from genrm_lightning.samplers.spending import Budget


def test_stages_of_one_call_share_a_budget():
    settings = OpenAISettings(budget_tokens=100)

    async def stage() -> Budget:
        budget = Budget(settings)
        await budget.reserve((40, 10))
        budget.settle((40, 10), Usage(40, None))
        return budget

    for _ in range(2):
        assert str(asyncio.run(stage())) == "1 requests, 40 tokens of prompts, 10 of completions"
    with pytest.raises(UserError, match="budget_tokens: stopped before 100 could be passed"):
        asyncio.run(stage())
    assert settings == OpenAISettings(budget_tokens=100) and OpenAISettings.spent == (0, 0)
