# The base image: one line. Astro Runtime (its `-base` variant, which leaves the installation to this file) or the Airflow image:
#   FROM apache/airflow:3.3.2
# The line is literal, because the Astro CLI reads the tag from it. The Airflow version stands in pyproject.toml too.
FROM astrocrpublic.azurecr.io/runtime:3.3-8-base

WORKDIR ${AIRFLOW_HOME}

# Operating system packages, where packages.txt names any.
USER root
COPY packages.txt ./
RUN if [ -s packages.txt ]; then apt-get update && xargs apt-get install -y --no-install-recommends <packages.txt \
    && rm -rf /var/lib/apt/lists/*; fi
# Both images run as an unprivileged user with the id 50000.
USER 50000

# Locked versions with hashes, so that two builds have the same. The image's Airflow and what it brings stay as they are: the lock has
# none of it, and `pip check` fails the build where the image has a package that is too old.
COPY requirements-image.lock ./
RUN pip install --no-cache-dir --no-deps --require-hashes --requirement requirements-image.lock && pip check

# The code belongs to root: what runs may read it, not change it.
COPY pyproject.toml README.md LICENSE airflow_settings.yaml ./
COPY include ./include
COPY plugins ./plugins
COPY dags ./dags
# Editable: there is one copy of the code, the one in plugins. This registers the connection types and the command `market-data`.
RUN pip install --no-cache-dir --no-deps --no-build-isolation --editable .
ENV PYTHONPATH=${AIRFLOW_HOME}:${AIRFLOW_HOME}/plugins
