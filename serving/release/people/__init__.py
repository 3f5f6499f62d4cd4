"""What people see of releases and do to them: before (lint, plan, diff), during (view), after (explanation)."""
