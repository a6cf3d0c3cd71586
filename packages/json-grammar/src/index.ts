export { type CallableFunction, placeInCall, schemaOfCall } from './call-schema.js';
export { JsonGrammars } from './json-grammars.js';
export { checkSchema, SchemaError, schemaLimits } from './schema-terms.js';
export { GrammarTooLargeError } from './terms.js';
export { TokenTrie } from './token-masks.js';
