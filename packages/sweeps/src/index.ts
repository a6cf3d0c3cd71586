export { type AtRung, decideRung, shareOfHalving, stepOfRung } from './halving.js';
export { metricOf, metricValue } from './metric.js';
export { rankingOf } from './ranking.js';
export { type Variant, valuesText, variantsOf } from './variants.js';
