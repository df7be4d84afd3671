"""Turns the template into plain CloudFormation, without the API, which moto cannot make. Run by .venv-sam's Python."""

import json
import sys
from pathlib import Path

from samcli.yamlhelper import yaml_parse
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

template = yaml_parse(Path(sys.argv[1]).read_text("utf-8"))
template["Globals"]["Function"]["CodeUri"] = "s3://code/code.zip"
made = Translator({}, Parser()).translate(template, {})
whole = dict(made["Resources"])
api = {name for name, one in whole.items() if one["Type"].startswith("AWS::ApiGateway::")}
made["Resources"] = {
    name: one
    for name, one in whole.items()
    if name not in api and not (one["Type"] == "AWS::Lambda::Permission" and "Api" in json.dumps(one))
}
made.pop("Outputs")
# The ARN of a batch job names a region; moto takes that for a fault in any ARN of S3.
made = json.loads(
    json.dumps(made, default=str).replace(
        "arn:aws:s3:${AWS::Region}:${AWS::AccountId}:job", "arn:aws:s3:::job"
    )
)
json.dump({"template": made, "whole": whole}, sys.stdout, default=str)
