export { type CommonForm, commonFormBytes, cutRank, manifestLora, withScale } from './common-scale.js';
export { fromPeftB, moduleOf, wrapperPaths } from './expert-wrappers.js';
export { checkFitsBase } from './fits-base.js';
export { ofExpert, type PeftAdapter, type PeftModule } from './peft-adapter.js';
export { withBaseModelName } from './peft-config.js';
export { type AdapterBase, readPeftFolder, withServedNames, writePeftFolder } from './peft-folder.js';
export { perExpert, type RowsOfGateUp, rowsOfGateUp, withFusedExperts } from './per-expert.js';
