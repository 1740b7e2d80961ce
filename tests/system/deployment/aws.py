"""ministack, with one fix: its API Gateway invokes the version behind an alias, but the function has to see the alias."""

import sys

import ministack.services.lambda_svc as functions
from ministack.app import main

resolve = functions._get_func_record_for_ref_in_scope


def with_alias(reference, **scope):
    function, config, name = resolve(reference, **scope)
    if config and reference.count(":") == 7:  # it ends in an alias
        config = {**config, "FunctionArn": reference}
    return function, config, name


functions._get_func_record_for_ref_in_scope = with_alias
sys.exit(main())
