export { type CompiledGrader, compileGrader, type GradedAnswer } from './compile-grader.js';
export { GraderError } from './grader-error.js';
