/* Answers one request from a SavedModel through TensorFlow's C API; no Python, no C++.

   serve MODEL SIGNATURE LIBRARY... -- {NAME DIMS FILE}...

   MODEL is the folder, each LIBRARY a file of further ops. An input is given by name, by its
   dimensions ("2x3", "1"), and by a file with its values as they lie in memory; of strings the
   file holds for each a uint32 with its length, then its bytes. Inputs that are left out are
   filled from SignatureDef.defaults, as TensorFlow Serving does. Prints one output a line: name,
   dimensions, values; strings as hex. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/c/c_api.h"

typedef struct { const uint8_t *at, *end; } Bytes;

static TF_Status* status;

static void fail(const char* what, const char* why) {
  fprintf(stderr, "%s: %s\n", what, why);
  exit(1);
}

static void ok(const char* what) {
  if (TF_GetCode(status) != TF_OK) fail(what, TF_Message(status));
}

/* Protocol buffers: fields of (number, wire type), then a varint, 4, 8 or a counted n bytes. */
static uint64_t varint(Bytes* b) {
  uint64_t value = 0;
  for (int shift = 0; b->at < b->end; shift += 7) {
    value |= (uint64_t)(*b->at & 127) << shift;
    if (!(*b->at++ & 128)) return value;
  }
  fail("protocol buffer", "a number without end");
  return 0;
}

static int next(Bytes* b, Bytes* content, uint64_t* number) {
  if (b->at >= b->end) return 0;
  uint64_t tag = varint(b);
  const uint8_t* start = b->at;
  *number = tag % 8 == 0 ? varint(b) : 0;
  uint64_t size = tag % 8 == 1 ? 8 : tag % 8 == 5 ? 4 : tag % 8 == 2 ? varint(b) : 0;
  if (tag % 8 == 1 || tag % 8 == 2 || tag % 8 == 5) start = b->at;
  if (size > (uint64_t)(b->end - b->at)) fail("protocol buffer", "a field beyond its end");
  b->at += size;
  *content = (Bytes){start, b->at};
  return (int)(tag / 8);
}

static int is(Bytes text, const char* name) {
  size_t size = text.end - text.at;
  return strlen(name) == size && !memcmp(text.at, name, size);
}

static Bytes field(Bytes message, int wanted, uint64_t* number) {
  Bytes content, found = {0, 0};
  uint64_t value;
  for (int f; (f = next(&message, &content, &value));)
    if (f == wanted) { found = content; *number = value; }
  return found;
}

static Bytes entry(Bytes message, int map, const char* key) {
  Bytes content;
  uint64_t unused;
  for (int f; (f = next(&message, &content, &unused));)
    if (f == map && is(field(content, 1, &unused), key)) return field(content, 2, &unused);
  return (Bytes){0, 0};
}

static TF_Tensor* tensor(TF_DataType type, const int64_t* dims, int rank, Bytes v, int counted) {
  size_t count = 1, width = type == TF_STRING ? sizeof(TF_TString) : TF_DataTypeSize(type);
  for (int i = 0; i < rank; i++) count *= dims[i];
  TF_Tensor* made = TF_AllocateTensor(type, dims, rank, count * width);
  uint8_t* to = TF_TensorData(made);
  for (size_t i = 0; i < count && type == TF_STRING; i++) {
    uint32_t size = 0;
    if (counted) { memcpy(&size, v.at, 4); v.at += 4; }
    TF_StringInit((TF_TString*)to + i);
    TF_StringCopy((TF_TString*)to + i, (const char*)v.at, size);
    v.at += size;
  }
  if (type == TF_STRING) return made;
  size_t held = v.end - v.at;
  if (held < width) fail("values", "too few");
  for (size_t i = 0; i < count; i++)  /* a TensorProto leaves out repetitions of the last value */
    memcpy(to + i * width, v.at + (i * width < held ? i * width : held - width), width);
  return made;
}

static TF_Tensor* standard(Bytes proto, TF_DataType type) {
  int64_t dims[16];
  int rank = 0;
  uint64_t size = 0, unused;
  Bytes content, shape = field(proto, 2, &unused);
  for (int f; (f = next(&shape, &content, &unused));)
    if (f == 2) { size = 0; field(content, 1, &size); dims[rank++] = (int64_t)size; }
  Bytes values = field(proto, 4, &unused);  /* tensor_content, else float_val */
  if (values.at == values.end) values = field(proto, 5, &unused);
  if (values.at == values.end && type != TF_STRING) {  /* int_val, bool_val: zero, or refused */
    static const uint8_t zeros[16];
    Bytes whole = field(proto, type == TF_BOOL ? 11 : 7, &unused);
    for (const uint8_t* v = whole.at; v < whole.end; v++)
      if (*v) fail("default", "is not zero");
    values = (Bytes){zeros, zeros + TF_DataTypeSize(type)};
  }
  return tensor(type, dims, rank, values, 0);  /* a string's default is empty */
}

static TF_Tensor* given(char** argument, TF_DataType type) {
  int64_t dims[16];
  int rank = 0;
  for (char* d = argument[1]; *d; d += *d == 'x') dims[rank++] = strtoll(d, &d, 10);
  FILE* file = fopen(argument[2], "rb");
  if (!file) fail(argument[2], "cannot be read");
  fseek(file, 0, SEEK_END);
  size_t size = ftell(file);
  uint8_t* values = malloc(size + 1);
  rewind(file);
  if (fread(values, 1, size, file) != size) fail(argument[2], "cannot be read");
  fclose(file);
  return tensor(type, dims, rank, (Bytes){values, values + size}, 1);
}

static void print(const char* name, TF_Tensor* t) {
  printf("%s ", name);
  for (int i = 0; i < TF_NumDims(t); i++) printf(i ? "x%lld" : "%lld", (long long)TF_Dim(t, i));
  for (int64_t i = 0; i < TF_TensorElementCount(t); i++) {
    if (TF_TensorType(t) == TF_FLOAT) printf(" %.9g", ((float*)TF_TensorData(t))[i]);
    else if (TF_TensorType(t) == TF_INT32) printf(" %d", ((int32_t*)TF_TensorData(t))[i]);
    else if (TF_TensorType(t) == TF_BOOL) printf(" %d", ((uint8_t*)TF_TensorData(t))[i]);
    else if (TF_TensorType(t) == TF_STRING) {
      TF_TString* text = (TF_TString*)TF_TensorData(t) + i;
      printf(" ");
      for (size_t j = 0; j < TF_StringGetSize(text); j++)
        printf("%02x", (uint8_t)TF_StringGetDataPointer(text)[j]);
    } else fail(name, "has a type that this program does not print");
  }
  printf("\n");
}

static TF_Output place(TF_Graph* graph, Bytes info, uint64_t* type) {
  uint64_t unused;
  Bytes name = field(info, 1, &unused);
  char text[512] = {0};
  memcpy(text, name.at, (size_t)(name.end - name.at) < 511 ? name.end - name.at : 511);
  field(info, 2, type);
  char* colon = strrchr(text, ':');
  if (!colon) fail(text, "is not the name of a tensor");
  *colon = 0;
  return (TF_Output){TF_GraphOperationByName(graph, text), atoi(colon + 1)};
}

int main(int count, char** arguments) {
  if (count < 4) fail("usage", "serve MODEL SIGNATURE LIBRARY... -- {NAME DIMS FILE}...");
  status = TF_NewStatus();
  int first = 3;
  for (; first < count && strcmp(arguments[first], "--"); first++) {
    TF_LoadLibrary(arguments[first], status);
    ok(arguments[first]);
  }
  TF_SessionOptions* options = TF_NewSessionOptions();
  TF_Graph* graph = TF_NewGraph();
  TF_Buffer* meta = TF_NewBuffer();
  const char* tags[] = {"serve"};
  TF_Session* session = TF_LoadSessionFromSavedModel(
      options, NULL, arguments[1], tags, 1, graph, meta, status);
  ok("load");

  Bytes whole = {meta->data, (const uint8_t*)meta->data + meta->length};
  Bytes signature = entry(whole, 5, arguments[2]), rest = signature, content, key;
  if (!signature.at) fail(arguments[2], "is not a signature of the model");
  TF_Output in[64], out[64];
  TF_Tensor *fed[64], *fetched[64];
  char names[64][256] = {{0}};
  int ins = 0, outs = 0;
  uint64_t unused, type;
  for (int f; (f = next(&rest, &content, &unused));) {
    if (f != 1 && f != 2) continue;
    key = field(content, 1, &unused);
    char name[256] = {0};
    memcpy(name, key.at, (size_t)(key.end - key.at) < 255 ? key.end - key.at : 255);
    TF_Output at = place(graph, field(content, 2, &unused), &type);
    if (f == 2) { memcpy(names[outs], name, 256); out[outs++] = at; continue; }
    in[ins] = at;
    fed[ins] = NULL;
    for (int a = first + 1; a + 2 < count; a += 3)
      if (!strcmp(arguments[a], name)) fed[ins] = given(arguments + a, (TF_DataType)type);
    Bytes proto = entry(signature, 4, name);
    if (!fed[ins] && !proto.at) fail(name, "was not given and has no default");
    if (!fed[ins]) fed[ins] = standard(proto, (TF_DataType)type);
    ins++;
  }
  TF_SessionRun(session, NULL, in, fed, ins, out, fetched, outs, NULL, 0, NULL, status);
  ok("run");
  for (int i = 0; i < outs; i++) print(names[i], fetched[i]);
  TF_CloseSession(session, status);
  return 0;
}
