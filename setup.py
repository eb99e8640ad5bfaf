from setuptools import find_packages, setup
setup(name="datacloak-nb", version="0.1.0", packages=find_packages())
