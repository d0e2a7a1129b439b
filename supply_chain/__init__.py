"""What the service is made of: known advisories of its packages, bills of materials of its images."""
