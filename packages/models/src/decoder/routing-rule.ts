import type { Experts } from '@lorasmith/model-folder';
import { gradientByLogits, type Routing, routeTokens, timesOfExperts } from './routing.js';
import { gradientBySigmoid, routeBySigmoid } from './sigmoid-routing.js';

/** Rule by which a router chooses experts and weighs them. */
export interface RoutingRule {
  /** @param logits `[tokens × experts]` */
  route(logits: Float32Array): Routing;
  /**
   * @param byWeights `[rows]`
   * @returns `[tokens × experts]`
   */
  gradient(byWeights: Float32Array, routing: Routing): Float32Array;
}

export type RoutingSettings = Pick<Experts, 'count' | 'perToken' | 'renormalized' | 'sigmoid'>;

/** A rule whose weights are multiplied by a factor of each expert. @param scales `[experts]` */
export function scaledRule(rule: RoutingRule, scales: Float32Array): RoutingRule {
  return {
    route(logits) {
      const routing = rule.route(logits);
      const { weights } = routing;
      return { ...routing, weights: timesOfExperts(weights, scales, routing), unscaled: weights };
    },
    gradient(byWeights, routing) {
      const unscaled = { ...routing, weights: routing.unscaled! };
      return rule.gradient(timesOfExperts(byWeights, scales, routing), unscaled);
    },
  };
}

/** @param correction `[experts]`; null where the router scores by softmax */
export function routingRuleOf({ sigmoid, ...settings }: RoutingSettings, correction: Float32Array | null): RoutingRule {
  if (sigmoid === undefined) {
    return {
      route: (logits) => routeTokens(logits, settings),
      gradient: (byWeights, routing) => gradientByLogits(byWeights, routing, settings),
    };
  }
  const own = { ...settings, sigmoid };
  return {
    route: (logits) => routeBySigmoid(logits, correction!, own),
    gradient: (byWeights, routing) => gradientBySigmoid(byWeights, routing, own),
  };
}
