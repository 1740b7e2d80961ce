"""The release's template without what the emulator lacks; prints what it removes.

    simplify.py TEMPLATE COPY
"""

import pathlib
import sys

import yaml


def without_metric_math(resources):
    for name, resource in resources.items():
        properties = resource["Properties"]
        if resource["Type"] == "AWS::CloudWatch::Alarm" and "Metrics" in properties:
            first = properties.pop("Metrics")[0]["MetricStat"]
            properties |= first["Metric"] | {"Statistic": first["Stat"], "Period": first["Period"]}
            print(f"{name}: the first metric instead of the expression")


def without_joins(conditions):
    for name, condition in conditions.items():
        if "Fn::Join" in repr(condition):
            conditions[name] = {"Fn::Equals": ["joined", "never"]}
            print(f"condition {name}: never, because the emulator joins nothing in conditions")


def without_a_wait(resources):
    resources["FirstMaintenance"]["Properties"]["WaitSeconds"] = 0
    print("FirstMaintenance: no wait for metrics, because the emulator extracts none")


template = yaml.safe_load(pathlib.Path(sys.argv[1]).read_text())
without_metric_math(template["Resources"])
without_joins(template["Conditions"])
without_a_wait(template["Resources"])
pathlib.Path(sys.argv[2]).write_text(yaml.safe_dump(template, sort_keys=False))
