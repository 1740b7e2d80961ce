# On an upgrade, only the version changes.
resource "aws_cloudformation_stack" "token_broker" {
  name         = "token-broker"
  template_url = "https://BUCKET.s3.us-east-1.amazonaws.com/token-broker/0.2.0/token-broker.template.yaml"
  capabilities = ["CAPABILITY_IAM"]
  parameters   = { CodeBucket = "BUCKET" }
}
