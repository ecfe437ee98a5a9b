# The project on an Airflow image. On Astro, name the Astro Runtime 3.3 image instead:
#   docker build --build-arg AIRFLOW_IMAGE=<Astro Runtime, its `-base` variant> .   (or write it into FROM for the Astro CLI)
# Both run as their own unprivileged user, and set AIRFLOW_HOME.
ARG AIRFLOW_IMAGE=apache/airflow:3.3.2
FROM ${AIRFLOW_IMAGE}

WORKDIR ${AIRFLOW_HOME}
COPY requirements.txt ./
# The image's Airflow stays as it is: a newer one among the requirements of a package must not replace it.
RUN pip freeze | grep -E '^apache-airflow(-core)?==' > /tmp/airflow.txt \
    && pip install --no-cache-dir --constraint /tmp/airflow.txt --requirement requirements.txt

# The code belongs to root: what runs may read it, not change it.
COPY include ./include
COPY plugins ./plugins
COPY dags ./dags
ENV PYTHONPATH=${AIRFLOW_HOME}:${AIRFLOW_HOME}/plugins
