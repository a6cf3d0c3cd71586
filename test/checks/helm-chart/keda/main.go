// Asks a metrics endpoint as KEDA does, with KEDA's own code for the trigger `metrics-api`: reads the trigger of a
// ScaledObject as JSON from standard input, and prints the value, the target and whether the workers are needed.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/kedacore/keda/v2/pkg/scalers"
	"github.com/kedacore/keda/v2/pkg/scalers/scalersconfig"
	v2 "k8s.io/api/autoscaling/v2"
)

func main() {
	if err := ask(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func ask() error {
	var trigger struct {
		Type     string            `json:"type"`
		Metadata map[string]string `json:"metadata"`
		// What a TriggerAuthentication would resolve to.
		AuthParams map[string]string `json:"authParams"`
	}
	if err := json.NewDecoder(os.Stdin).Decode(&trigger); err != nil {
		return err
	}
	scaler, err := scalers.NewMetricsAPIScaler(&scalersconfig.ScalerConfig{
		TriggerType:       trigger.Type,
		TriggerMetadata:   trigger.Metadata,
		AuthParams:        trigger.AuthParams,
		GlobalHTTPTimeout: 10 * time.Second,
		MetricType:        v2.AverageValueMetricType,
	}, nil)
	if err != nil {
		return err
	}
	ctx := context.Background()
	defer scaler.Close(ctx)
	spec := scaler.GetMetricSpecForScaling(ctx)[0].External
	values, isActive, err := scaler.GetMetricsAndActivity(ctx, spec.Metric.Name)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"value":  values[0].Value.AsApproximateFloat64(),
		"target": spec.Target.AverageValue.AsApproximateFloat64(),
		"active": isActive,
	})
}
