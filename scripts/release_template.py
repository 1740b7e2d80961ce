"""The template of a release: template.yaml as SAM transforms it, for CloudFormation without a macro.

    release_template.py DIRECTORY VERSION ARCHITECTURE...

Writes token-broker.template.yaml to the directory that has token-broker-ARCHITECTURE.zip. It contains the zips' digests, and
Lambda publishes no version of other code. Its parameters CodeBucket and CodeKey say where the zip is.
"""

import base64
import hashlib
import json
import pathlib
import sys

import boto3
import yaml
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

CODE = {
    "CodeBucket": {
        "Type": "String",
        "AllowedPattern": "^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$",
        "ConstraintDescription": "the name of a bucket",
        "Description": "Bucket in this Region that holds the function's archive.",
    },
    "CodeKey": {
        "Type": "String",
        "Default": "",
        "Description": "Key of the archive. Empty: token-broker/VERSION/token-broker-ARCHITECTURE.zip of this release.",
    },
}


def source(path="template.yaml"):
    return yaml_parse(pathlib.Path(path).read_text())


def transformed(template, code, parameters):
    """The result of SAM for a template whose function has this code, which SAM only passes through."""
    template["Resources"]["BrokerFunction"]["Properties"]["CodeUri"] = f"s3://bucket/{code}"
    session = boto3.Session(region_name="us-east-1")
    return Translator({}, Parser(), boto_session=session).translate(template, parameters)


def release(directory, version, architectures):
    digests = {
        name: hashlib.sha256((directory / f"token-broker-{name}.zip").read_bytes()).digest() for name in architectures
    }
    template = source()
    # SAM would name the deployment after the time, so that no two builds would be equal.
    del template["Resources"]["PrivateApi"]["Properties"]["AlwaysDeploy"]
    # SAM names the version after the code, so that another release makes another version.
    template = transformed(template, b"".join(digests.values()).hex(), {})
    metadata = template["Metadata"]
    del metadata["AWS::ServerlessRepo::Application"]
    metadata["AWS::CloudFormation::Interface"]["ParameterGroups"].insert(
        0, {"Label": {"default": "Code"}, "Parameters": list(CODE)}
    )
    template["Description"] = f"{template['Description'].strip()} Version {version}."
    template["Parameters"] = CODE | template["Parameters"]
    conditions = template["Conditions"]
    conditions["HasCodeKey"] = {"Fn::Not": [{"Fn::Equals": [{"Ref": "CodeKey"}, ""]}]}
    resources = template["Resources"]
    key = {"Fn::Sub": f"token-broker/{version}/token-broker-${{Architecture}}.zip"}
    resources["BrokerFunction"]["Properties"]["Code"] = {
        "S3Bucket": {"Ref": "CodeBucket"},
        "S3Key": {"Fn::If": ["HasCodeKey", {"Ref": "CodeKey"}, key]},
    }
    [published] = [each for each in resources.values() if each["Type"] == "AWS::Lambda::Version"]
    # An old version stays, for a roll-back. The version of a deployment that is rolled back does not.
    published["DeletionPolicy"] = "RetainExceptOnCreate"
    for name in ("BrokerFunction", "BrokerFunctionAliascandidate"):
        del resources[name]["UpdateReplacePolicy"]
    digest, *others = (base64.b64encode(digest).decode() for digest in digests.values())
    if others:
        conditions["IsFirstArchitecture"] = {"Fn::Equals": [{"Ref": "Architecture"}, architectures[0]]}
        digest = {"Fn::If": ["IsFirstArchitecture", digest, *others]}
    published["Properties"]["CodeSha256"] = digest
    # SAM leaves the reasons for skipped findings in the place of the stage.
    resources["PrivateApiprodStage"]["Metadata"] = resources["PrivateApi"].pop("Metadata")
    settings = resources["Settings"]["Properties"]["Content"]["Fn::Sub"]
    settings[0] += "".join(f"{name}=${{{name}}}\n" for name in CODE)
    return template


def write(directory, version, architectures):
    template = json.loads(json.dumps(release(directory, version, architectures)))
    text = yaml.safe_dump(template, sort_keys=False, allow_unicode=True, width=120)
    (directory / "token-broker.template.yaml").write_text(text)


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
