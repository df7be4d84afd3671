"""The cloud app: Lambdas that bring archived objects back by S3 Batch Operations. See cloud/template.yaml.

It runs the jobs of `tidegate.restore`, some steps at each tick. In between, the file of a job lies in the
bucket for reports, and what may be asked about it in one row of a table.
"""
