"""What moves promises on. Each flow may be stopped anywhere, run twice, or come late, without harm."""
