-- How far the download of the one large file is.
SELECT coalesce(max(bytes), 0) FROM body WHERE NOT complete
