# Deploys the whole stack with the README's commands to a third-party AWS emulator. It enforces IAM, and runs the
# function as a process, which uses TLS with an emulated Convirza.
# shellcheck shell=bash

DEPLOYMENT=$SYSTEM_DIR/deployment
. tests/system/arm64_std.sh
. tests/system/deployment/terraform.sh
python() { "$SYSTEM_DIR/ministack/bin/python" "$@"; }

# The folder of a release: the one that the part `release` built in this run. Without that, it has the arm64 zip that the
# part `cargo_lambda` built and tried on QEMU, or the function as cargo builds it for the tests.
release_folder() {
    local folder=$DEPLOYMENT/release
    rm -rf "$DEPLOYMENT" && mkdir -p "$folder" || return
    if [ -e "$MADE/release" ]; then
        ARCHITECTURE=x86_64 QEMU=
        cp -R "$MADE/release/." "$folder"
        return
    fi
    if [ -e "$MADE/arm64.zip" ]; then
        ARCHITECTURE=arm64
        emulate_arm64 && cp "$MADE/arm64.zip" "$folder/token-broker-arm64.zip" || return
    else
        ARCHITECTURE=x86_64 QEMU=
        if [ "$(uname -m)" = aarch64 ]; then ARCHITECTURE=arm64; fi
        cargo build --quiet --locked --bin token-broker && strip -o "$DEPLOYMENT/bootstrap" target/debug/token-broker &&
            SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) python3 scripts/release.py zip \
                "$folder/token-broker-$ARCHITECTURE.zip" bootstrap "$DEPLOYMENT/bootstrap" || return
    fi
    "$SYSTEM_DIR/sam-translator/bin/python" scripts/release_template.py "$folder" 0.2.0 $ARCHITECTURE &&
        (cd "$folder" && sha256sum -- * >SHA256SUMS)
}

start_upstream() {
    start_local && background relay "$SYSTEM_DIR/ministack/bin/python" tests/system/deployment/relay.py \
        "$DEPLOYMENT/authority.pem" "${CONVIRZA_URL##*:}" && wait_for 20 grep -q . "$LOGS/relay.log" &&
        UPSTREAM=https://localhost:$(cat "$LOGS/relay.log")
}

start_aws() {
    local port
    port=$(free_port) || return
    export AWS_ACCESS_KEY_ID=administrator AWS_SECRET_ACCESS_KEY=administrator AWS_DEFAULT_REGION=us-east-1
    export AWS_ENDPOINT_URL=http://127.0.0.1:$port AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null
    # Python functions run with the first python3 of the PATH. The functions inherit the variables that their own do not
    # replace, such as the authority.
    background aws env BIND_HOST=127.0.0.1 GATEWAY_PORT="$port" AUTH=true MINISTACK_ACCOUNT_ID=123456789012 \
        QEMU="$QEMU" SSL_CERT_FILE="$DEPLOYMENT/authority.pem" TMPDIR="$DEPLOYMENT" PATH="$SYSTEM_DIR/ministack/bin:$PATH" \
        "$SYSTEM_DIR/ministack/bin/python" tests/system/deployment/aws.py
    wait_for 30 grep -q 'Running on' "$LOGS/aws.log"
}

# The README's commands, in a folder of a release, with this upstream and processor. The last of them get a token.
deploys_by_the_readme() {
    local folder=$DEPLOYMENT/release block printed
    # Checked first, because the emulator's part of the template then replaces it.
    (cd "$folder" && sha256sum --check --ignore-missing --quiet SHA256SUMS) &&
        mv "$folder/token-broker.template.yaml" "$DEPLOYMENT/whole.yaml" &&
        python tests/system/deployment/simplify.py "$DEPLOYMENT/whole.yaml" "$folder/token-broker.template.yaml" &&
        echo '{"email":"local@example.invalid","password":"local-only"}' >"$folder/secret.json" || return
    block=$(document_block bash 'aws cloudformation deploy' README.md | sed -e "s/ARCH=arm64/ARCH=$ARCHITECTURE/" \
        -e "s|^BUCKET=your-bucket|aws s3 mb s3://archives; BUCKET=archives|" -e '/SHA256SUMS/d' \
        -e "s|CodeBucket=\"\$BUCKET\"|& OauthUrl=$UPSTREAM ApiUrl=$UPSTREAM/v3|")
    printed=$(cd "$folder" && bash -euxo pipefail -c "$block") && echo "$printed" &&
        grep -q '"login_limiter"' <<<"$printed" && ! grep -q FunctionError <<<"$printed"
}

# Pasted as a whole, they upload and deploy nothing if a file is damaged.
stops_at_a_wrong_checksum() {
    local folder=$DEPLOYMENT/damaged called=$DEPLOYMENT/called
    cp -R "$DEPLOYMENT/release" "$folder" && echo >>"$folder/token-broker.template.yaml" &&
        document_block bash 'aws cloudformation deploy' README.md >"$folder/pasted" || return
    (
        aws() { echo "$*" >>"$CALLED"; }
        export -f aws
        cd "$folder" && CALLED=$called bash <pasted
    )
    cat "$called" && grep -q '^secretsmanager' "$called" && ! grep -vq '^secretsmanager' "$called"
}

# The example's stack for CDK has the template's resources.
cdk_includes_the_template() {
    local folder=$SYSTEM_DIR/cdk-node
    cp "$DEPLOYMENT/release/token-broker.template.yaml" "$folder/" &&
        { cat examples/deploy/cdk.mjs && echo 'app.synth();'; } >"$folder/app.mjs" &&
        (cd "$folder" && CDK_OUTDIR=$DEPLOYMENT/cdk node app.mjs) && python - "$folder" "$DEPLOYMENT" <<'PYTHON'
import json, pathlib, sys, yaml
given = yaml.safe_load(pathlib.Path(sys.argv[1], "token-broker.template.yaml").read_text())
made = json.loads(pathlib.Path(sys.argv[2], "cdk/token-broker.template.json").read_text())
assert set(made["Resources"]) - {"CDKMetadata"} == set(given["Resources"])
assert made["Resources"]["BrokerFunction"]["Properties"]["Code"]["S3Bucket"] == "BUCKET"
PYTHON
}

# No emulator that can be installed has StackSets with a template from a bucket, so the AWS CLI checks the command alone.
stack_sets_command() {
    local command
    command=$(grep -o '`aws cloudformation create-stack-set [^`]*`' docs/OPERATIONS.md | tr -d '`') &&
        AWS_DEFAULT_REGION=us-east-1 $command --generate-cli-skeleton output
}

need "the emulator of AWS" venv ministack ministack==1.5.33 boto3==1.43.106 trustme==1.2.1 PyYAML==6.0.4
need "the AWS CLI" aws_cli
need "the tools for the template of a release" template_tools
need "a folder like a release's" release_folder
check "deployment: the README's commands stop at a wrong checksum" stops_at_a_wrong_checksum
need "CDK" node_modules cdk aws-cdk-lib@2.276.0 constructs@10.8.1
check "deployment: CDK includes the template of a release" cdk_includes_the_template
check "deployment: the AWS CLI accepts the command for StackSets" stack_sets_command
need "the agent" cargo build --quiet --locked --package token-broker-agent
need "an upstream with TLS" start_upstream
need "the emulator of AWS" start_aws
check "deployment: the README's commands deploy a release and get a token" deploys_by_the_readme || return 0
if [ "$(uname -m)" = x86_64 ]; then
    need "Terraform" terraform_tools
    check "deployment: Terraform deploys the template of a release" terraform_deploys_the_template
else
    skip "deployment: Terraform deploys the template of a release" "its package is for x86_64"
fi
for name in $(python tests/system/deployment/stack.py list); do
    check "deployment: ${name//_/ }" python tests/system/deployment/stack.py "$name"
done
