"""The template as CloudFormation sees it: transformed as SAM does it, and resolved for a choice of parameters.

Writes a JSON file for each choice to the directory that is its argument. What only a deployment gives a value to, such
as the ARN of a table, becomes a text like ${TokenTable.Arn}.
"""

import json
import logging
import pathlib
import re
import sys

import boto3
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

PSEUDO = {
    "AWS::AccountId": "123456789012",
    "AWS::Partition": "aws",
    "AWS::Region": "us-east-1",
    "AWS::StackName": "token-broker",
    "AWS::URLSuffix": "amazonaws.com",
}
KEY = "arn:aws:kms:us-east-1:123456789012:key/of-the-"
# Every parameter that may be left empty, with a value.
EVERYTHING = {
    "AlarmTopicArn": "arn:aws:sns:us-east-1:123456789012:alarms",
    "Callers": '[{"caller":"direct:live","accounts":["*"],"actions":["*"]}]',
    "ReservedConcurrency": "10",
    "SecretKeyArn": KEY + "secrets",
    "SecurityGroupIds": "sg-1",
    "SubnetIds": "subnet-1,subnet-2",
    "TableKeyArn": KEY + "table",
    "VpcEndpointIds": "vpce-1,vpce-2",
}
GONE = object()  # AWS::NoValue: whatever has this value is left out


def transformed(source):
    # SAM wants to know where the package is; here nothing has been packaged.
    source["Resources"]["BrokerFunction"]["Properties"]["CodeUri"] = "s3://bucket/package"
    session = boto3.Session(region_name=PSEUDO["AWS::Region"])
    return Translator({}, Parser(), boto_session=session).translate(source, {})


class Resolver:
    def __init__(self, template, chosen):
        self.conditions = template["Conditions"]
        self.parameters = {
            name: chosen.get(name, declared.get("Default")) for name, declared in template["Parameters"].items()
        }
        self.lists = {name for name, declared in template["Parameters"].items() if "List" in declared["Type"]}
        self.resources = template["Resources"]

    def stack(self):
        """The resources that there would be."""
        return {
            name: self.value({"Type": resource["Type"], "Properties": resource["Properties"]})
            for name, resource in self.resources.items()
            if "Condition" not in resource or self.holds(resource["Condition"])
        }

    def holds(self, condition):
        return self.value(self.conditions[condition])

    def value(self, given):
        if isinstance(given, list):
            return [value for value in map(self.value, given) if value is not GONE]
        if not isinstance(given, dict):
            return given
        if len(given) == 1:
            [(name, argument)] = given.items()
            if name == "Ref":
                return self.reference(argument)
            if name == "Condition" and isinstance(argument, str):
                return self.holds(argument)
            if name.startswith("Fn::"):
                return self.function(name, argument)
        resolved = {name: self.value(value) for name, value in given.items()}
        return {name: value for name, value in resolved.items() if value is not GONE}

    def reference(self, name):
        if name == "AWS::NoValue":
            return GONE
        if name in self.lists:
            return [item for item in self.parameters[name].split(",") if item]
        known = PSEUDO | self.parameters
        return known[name] if name in known else self.later(name)

    def later(self, name):
        assert name.split(".")[0] in self.resources, f"nothing is called {name}"
        return "${" + name + "}"

    def function(self, name, argument):
        if name == "Fn::If":
            condition, then, otherwise = argument
            return self.value(then if self.holds(condition) else otherwise)
        if name == "Fn::Sub":
            return re.sub(r"\$\{([^}]+)\}", lambda match: str(self.reference(match[1])), argument)
        if name == "Fn::GetAtt":
            return self.later(argument if isinstance(argument, str) else ".".join(argument))
        argument = self.value(argument)
        if name == "Fn::Join":
            return argument[0].join(argument[1])
        if name == "Fn::Equals":
            return argument[0] == argument[1]
        if name == "Fn::Not":
            return not argument[0]
        if name == "Fn::And":
            return all(argument)
        raise NotImplementedError(name)


def extremes(template, name):
    return {key: declared[name] for key, declared in template["Parameters"].items() if name in declared}


def main():
    logging.disable()
    template = transformed(yaml_parse(pathlib.Path("template.yaml").read_text()))
    choices = {
        "defaults": {},
        "everything": EVERYTHING,
        "least": extremes(template, "MinValue"),
        "most": extremes(template, "MaxValue"),
    }
    directory = pathlib.Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for name, chosen in choices.items():
        stack = Resolver(template, chosen).stack()
        (directory / f"{name}.json").write_text(json.dumps(stack, indent=1))


main()
