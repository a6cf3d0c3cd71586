export { type AtRung, decideRung, shareOfHalving, stepOfRung } from './halving.js';
export { metricOf, metricValue } from './metric.js';
export { rankingOf } from './ranking.js';
export { valuesText } from './same-value.js';
export { type Variant, variantsOf } from './variants.js';
