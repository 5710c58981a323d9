CREATE SCHEMA baton_examine
