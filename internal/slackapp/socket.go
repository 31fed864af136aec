package slackapp

import (
	"context"
)

func (a *App) socket(context.Context) {}
