"""Whatever rclone reaches, through its daemon."""
