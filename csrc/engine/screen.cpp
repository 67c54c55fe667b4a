// screen: bounds of the logits of a head in float32 or bfloat16, alone (screen.h).
#include "engine/screen.h"

EXPORT Bounds *gpt149_screen() {
    return new (std::nothrow) Screen;
}
