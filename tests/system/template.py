"""The template as CloudFormation sees it: transformed by SAM, and resolved for a choice of parameters.

Writes the resources of each choice as NAME.json to the directory that is its argument, and NAME.template.json for
checkov. Values that exist only after a deployment, such as the ARN of a table, become texts like ${TokenTable.Arn}.

changes/PARAMETER.json has the resources with another value of that parameter, and changes/code.json those with other
code. sam-local.json has the function's variables as `sam local` resolves them.
"""

import json
import logging
import pathlib
import re
import sys

from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER
from samcli.lib.providers.sam_function_provider import SamFunctionProvider
from samcli.lib.providers.sam_stack_provider import SamLocalStackProvider
from samcli.local.lambdafn.env_vars import EnvironmentVariables

sys.path.insert(0, "scripts")
import release_template

PSEUDO = {
    "AWS::AccountId": "123456789012",
    "AWS::Partition": "aws",
    "AWS::Region": "us-east-1",
    "AWS::StackId": "arn:aws:cloudformation:us-east-1:123456789012:stack/token-broker/00000000-0000-0000-0000-000000000000",
    "AWS::StackName": "token-broker",
    "AWS::URLSuffix": "amazonaws.com",
}
KEY = "arn:aws:kms:us-east-1:123456789012:key/of-the-"
# Every parameter that may be left empty, with a value.
EVERYTHING = {
    "AlarmTopicArn": "arn:aws:sns:us-east-1:123456789012:alarms",
    "Callers": '[{"caller":"direct:live","accounts":["*"],"actions":["*"]}]',
    "Canary": "Canary10Percent15Minutes",
    "Dashboard": "true",
    "DeploymentRoleArn": "arn:aws:iam::123456789012:role/deployment",
    "LogKeyArn": KEY + "logs",
    "LoginLimits": '{"login.example.invalid":{"requests":10,"seconds":600}}',
    "OrganizationId": "o-0123456789",
    "PermissionsBoundaryArn": "arn:aws:iam::123456789012:policy/boundary",
    "ProvisionedConcurrency": 2,
    "ReservedConcurrency": "10",
    "SecretKeyArn": KEY + "secrets",
    "SecurityGroupIds": "sg-1",
    "SubnetIds": "subnet-1,subnet-2",
    "TableGeneration": 1,
    "TableKeyArn": KEY + "table",
    "UpstreamHosts": "login.example.invalid,api.example.invalid:8443",
    "VpcEndpointIds": "vpce-1,vpce-2",
}
AGENT = {"ArchiveBucket": "archives", "OrganizationId": "o-0123456789"}
# Another value for the parameters whose declaration does not suggest one.
OTHERS = {
    "ApiUrl": "https://api.example.invalid",
    "Log": "debug",
    "OauthUrl": "https://oauth.example.invalid",
    "RevokeField": "access_token",
    "RunbookUrl": "https://runbooks.example.invalid",
    "SecretPrefix": "other/",
}
# Properties whose change makes CloudFormation replace the resource. The template rests on them.
REPLACED_WITH = {
    "AWS::AppConfig::HostedConfigurationVersion": "Content",
    "AWS::DynamoDB::Table": "TableName",
    "AWS::Lambda::Version": "Description",
}
GONE = object()  # AWS::NoValue: an entry with this value is omitted


def another(name, declared):
    """A value of a parameter other than its default."""
    for values in (EVERYTHING, OTHERS):
        if name in values:
            return values[name]
    if "AllowedValues" in declared:
        return next(value for value in declared["AllowedValues"] if value != declared["Default"])
    return next(declared[end] for end in ("MaxValue", "MinValue") if declared[end] != declared["Default"])


class Resolver:
    def __init__(self, template, chosen):
        self.conditions = template["Conditions"]
        self.parameters = {
            name: chosen.get(name, declared.get("Default")) for name, declared in template["Parameters"].items()
        }
        self.lists = {name for name, declared in template["Parameters"].items() if "List" in declared["Type"]}
        self.resources = template["Resources"]

    def stack(self):
        """The resources of the stack."""
        return {
            name: self.value(
                {key: resource[key] for key in ("Type", "Properties", "UpdatePolicy", "UpdateReplacePolicy", "DependsOn") if key in resource}
            )
            for name, resource in self.resources.items()
            if "Condition" not in resource or self.holds(resource["Condition"])
        }

    def template(self):
        """The same, as a template that checkov reads."""
        resources = self.stack()
        for name, resource in resources.items():
            # SAM makes a stage of an API, and leaves the API's metadata in place.
            source = next((api for api in ("PrivateApi", "HttpApi") if name.startswith(api)), name)
            metadata = self.resources[name].get("Metadata") or self.resources.get(source, {}).get("Metadata")
            if metadata:
                resource["Metadata"] = metadata
        return {"AWSTemplateFormatVersion": "2010-09-09", "Resources": resources}

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
        if name.startswith("!"):
            return "${" + name[1:] + "}"
        return known[name] if name in known else self.later(name)

    def later(self, name):
        assert name.split(".")[0] in self.resources, f"nothing is called {name}"
        return "${" + name + "}"

    def function(self, name, argument):
        if name == "Fn::If":
            condition, then, otherwise = argument
            return self.value(then if self.holds(condition) else otherwise)
        if name == "Fn::Sub":
            text, own = (argument, {}) if isinstance(argument, str) else argument
            own = {key: self.value(value) for key, value in own.items()}
            return re.sub(
                r"\$\{([^}]+)\}",
                lambda match: str(own[match[1]] if match[1] in own else self.reference(match[1])),
                text,
            )
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
        if name == "Fn::Or":
            return any(argument)
        raise NotImplementedError(name)


def transformed(package, parameters):
    return release_template.transformed(release_template.source(), package, parameters)


def release(directory):
    """The template of a release, with fake archives."""
    directory.mkdir(exist_ok=True)
    architectures = ["arm64", "x86_64"]
    for name in architectures:
        (directory / f"token-broker-{name}.zip").write_text(name)
    release_template.write(directory, "0.2.0", architectures)
    return release_template.release(directory, "0.2.0", architectures)


def extremes(template, name):
    return {key: declared[name] for key, declared in template["Parameters"].items() if name in declared}


# Permissions of CloudFormation's resource types that this template never needs.
NEVER = re.compile(
    r"(ec2|elasticfilesystem|firehose|kinesis|s3|s3files):|iam:.*(Group|User)Policy|iam:CreateServiceLinkedRole|"
    r"dynamodb:.*(Item|Scan|Query|ImportTable|DescribeImport|Kinesis|ContributorInsights|Replica|ResourcePolicy)|"
    r"kms:(RevokeGrant|DisableKey.*|ListAliases|UpdateKeyDescription)|codedeploy:Register|"
    r"lambda:.*(CodeSigning|CapacityProvider|GetLayerVersion|Scaling|Recursion|Runtime)|"
    r"logs:(.*(Protection|IndexPolic|BearerToken)|CreateLogStream|PutLogEvents|DescribeLogStreams)"
)
# Named by AWS elsewhere: access logs, the archive, VersionCheck.
ALSO = {f"logs:{action}LogDelivery" for action in ("Get", "Update", "Delete")}
ALSO |= {"logs:ListLogDeliveries", "s3:GetObject", "lambda:InvokeFunction"}


def check_deployment_policy(template):
    """The policy for a deployment role names what the template's resource types need."""
    kinds = {resource["Type"] for resource in template["Resources"].values()}
    needed = set(ALSO)
    for kind in sorted(kind for kind in kinds if kind.startswith("AWS::")):
        handlers = PROVIDER_SCHEMA_MANAGER.get_resource_schema(PSEUDO["AWS::Region"], kind).schema["handlers"]
        for name in ("create", "read", "update", "delete"):
            needed |= {each for each in handlers.get(name, {}).get("permissions", []) if not NEVER.match(each)}
    policy = json.loads(pathlib.Path("docs/deployment-policy.json").read_text())
    listed = {action for statement in policy["Statement"] for action in statement["Action"]}
    assert needed == listed, f"docs/deployment-policy.json: missing {needed - listed}, not needed {listed - needed}"


def sam_local_variables():
    stacks, _ = SamLocalStackProvider.get_stacks("template.yaml")
    function = SamFunctionProvider(stacks, ignore_code_extraction_warnings=True).get("BrokerFunction")
    named = function.environment["Variables"]
    return EnvironmentVariables(variables=named, shell_env_values={}, override_values={}).resolve()


def write(path, content):
    path.write_text(json.dumps(content, indent=1))


def main():
    logging.disable()
    directory = pathlib.Path(sys.argv[1])
    (directory / "changes").mkdir(parents=True, exist_ok=True)
    for earlier in directory.glob("**/*.json"):
        earlier.unlink()
    for kind, name in REPLACED_WITH.items():
        schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema(PSEUDO["AWS::Region"], kind).schema
        assert f"/properties/{name}" in schema["createOnlyProperties"], f"a new {name} does not replace a {kind}"

    template = transformed("package", {})
    for name, resource in template["Resources"].items():
        for skip in resource.get("Metadata", {}).get("checkov", {}).get("skip", []):
            assert skip.get("comment"), f"{name} skips {skip['id']} without a reason"
    check_deployment_policy(template)
    choices = {
        "defaults": {},
        "everything": EVERYTHING,
        "least": extremes(template, "MinValue"),
        "most": extremes(template, "MaxValue"),
    }
    for name, chosen in choices.items():
        resolver = Resolver(template, chosen)
        write(directory / f"{name}.json", resolver.stack())
        write(directory / f"{name}.template.json", resolver.template())

    # As AWS transforms a deployment: with the parameters' values.
    for name, declared in template["Parameters"].items():
        chosen = {name: another(name, declared)}
        write(directory / "changes" / f"{name}.json", Resolver(transformed("package", chosen), chosen).stack())
    write(directory / "sam-local.json", sam_local_variables())
    agent = release_template.source("clients/agent/template.yaml")
    write(directory / "agent.json", Resolver(agent, AGENT).stack())
    write(directory / "release.json", Resolver(release(directory / "release"), {"CodeBucket": "archives"}).stack())
    write(directory / "changes" / "code.json", Resolver(transformed("other-package", {}), {}).stack())


main()
