# The template as CloudFormation sees it, against the code.
# shellcheck shell=bash

need "the SAM CLI" sam_tools
check "template: sam validate --lint" sam validate --lint --region us-east-1
need "transform the template" "$SYSTEM_DIR/sam/bin/python" tests/system/template.py "$SYSTEM_DIR/template"
need "build the tests of the template" cargo test --quiet --locked --test integration --no-run

# These are ignored where nothing has transformed the template, which is why they are named one by one.
names=$(cargo test --quiet --locked --test integration template:: -- --ignored --list | sed -n 's/: test$//p')
check "template: there are such tests" [ -n "$names" ] || return 0
while read -r name; do
    check "template: $(tr '_' ' ' <<<"${name#template::}")" \
        cargo test --quiet --locked --test integration "$name" -- --exact --ignored
done <<<"$names"
