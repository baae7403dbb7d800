"""Files of deployment: settings of Dagster. Data only."""
