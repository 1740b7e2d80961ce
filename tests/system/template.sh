# The template as CloudFormation sees it, against the code.
# shellcheck shell=bash

need "the SAM CLI" sam_tools
check "template: sam validate --lint, which is cfn-lint" sam validate --lint --region us-east-1
need "transform the template" "$SYSTEM_DIR/sam/bin/python" tests/system/template.py "$SYSTEM_DIR/template"

# As written, and as deployed, because checkov evaluates no conditions. Its descriptions would come from the network.
need "checkov" venv checkov checkov==3.3.30
run_checkov() {
    "$SYSTEM_DIR/checkov/bin/checkov" --framework cloudformation --compact --quiet --skip-download --file "$1"
}
check "template: checkov" run_checkov template.yaml
for file in clients/agent/template.yaml "$SYSTEM_DIR/template/release/token-broker.template.yaml"; do
    of=$(basename "$(dirname "$file")")
    check "template: cfn-lint of the $of" "$SYSTEM_DIR/sam/bin/cfn-lint" --regions us-east-1 -- "$file"
    check "template: checkov of the $of" run_checkov "$file"
done
for choice in defaults everything; do
    check "template: checkov, deployed with $choice" run_checkov "$SYSTEM_DIR/template/$choice.template.json"
done

need "build the tests of the template" cargo test --quiet --locked --test integration --no-run

# These are ignored unless the template has been transformed, so they are named one by one.
names=$(cargo test --quiet --locked --test integration template:: -- --ignored --list | sed -n 's/: test$//p')
check "template: the tests are found" [ -n "$names" ] || return 0
while read -r name; do
    check "template: $(tr '_' ' ' <<<"${name#template::}")" \
        cargo test --quiet --locked --test integration "$name" -- --exact --ignored
done <<<"$names"
