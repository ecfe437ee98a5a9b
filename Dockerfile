# The project on an Airflow image. Astro's by default; Apache's own with
#   docker build --build-arg AIRFLOW_IMAGE=apache/airflow:3.3.2 .
# Both run as their own unprivileged user, and set AIRFLOW_HOME. The `-base` image has no build steps of its own.
ARG AIRFLOW_IMAGE=astrocrpublic.azurecr.io/runtime:3.3-2-base
FROM ${AIRFLOW_IMAGE}

WORKDIR ${AIRFLOW_HOME}
COPY requirements.txt ./
RUN pip install --no-cache-dir --requirement requirements.txt

# The code belongs to root: what runs may read it, not change it.
COPY include ./include
COPY plugins ./plugins
COPY dags ./dags
ENV PYTHONPATH=${AIRFLOW_HOME}:${AIRFLOW_HOME}/plugins
